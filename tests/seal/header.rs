//! The volume header in the store: two copies, conditional replacement, repair.

use strongroom::{
    seal::volume::{
        Argon2Params, COPY_KEY, HeaderSource, LoadError, LoadedHeader, PRIMARY_KEY, SaveError,
        Secret, UnlockError, Unlocked, VolumeHeader,
    },
    store::Condition,
};
use zeroize::Zeroizing;

use crate::bucket::Bucket;

fn secret(seed: u8) -> Secret {
    Secret::key_file(Zeroizing::new((0..32).map(|i| i ^ seed).collect())).unwrap()
}

async fn stored(bucket: &Bucket) -> (VolumeHeader, Unlocked) {
    let (header, unlocked) = VolumeHeader::create(&secret(1), Argon2Params::default()).unwrap();
    header.save(&bucket.store, Condition::Absent).await.unwrap();
    (header, unlocked)
}

async fn load(bucket: &Bucket) -> LoadedHeader {
    VolumeHeader::load(&bucket.store).await.unwrap()
}

#[tokio::test]
async fn a_header_comes_back_as_it_was_saved_in_two_identical_objects() {
    let bucket = Bucket::create().await;
    let (header, _) = stored(&bucket).await;
    let loaded = load(&bucket).await;
    assert!(loaded.header == header);
    assert_eq!(loaded.source, HeaderSource::Primary);
    assert_eq!(bucket.read(PRIMARY_KEY).await, bucket.read(COPY_KEY).await);
    let unlocked = loaded.header.unlock(&secret(1)).unwrap();
    assert!(!loaded.repair(&bucket.store, &unlocked).await.unwrap());
}

#[tokio::test]
async fn a_missing_bucket_and_a_missing_volume_are_told_apart() {
    let bucket = Bucket::start().await;
    assert!(matches!(
        VolumeHeader::load(&bucket.store).await,
        Err(LoadError::NoBucket(_))
    ));
    bucket.store.create_bucket().await.unwrap();
    let error = VolumeHeader::load(&bucket.store).await.unwrap_err();
    assert!(matches!(error, LoadError::NoVolume(_)));
    assert_eq!(
        error.to_string(),
        "there is no volume at s3://bucket/some/volume: make one with `strongroom init`"
    );
}

#[tokio::test]
async fn of_two_volumes_made_at_once_at_one_place_one_wins() {
    let bucket = Bucket::create().await;
    let (first, _) = stored(&bucket).await;
    let (second, _) = VolumeHeader::create(&secret(2), Argon2Params::default()).unwrap();
    assert!(matches!(
        second.save(&bucket.store, Condition::Absent).await,
        Err(SaveError::Conflict)
    ));
    assert!(load(&bucket).await.header == first);
    assert_eq!(bucket.read(PRIMARY_KEY).await, bucket.read(COPY_KEY).await);
}

#[tokio::test]
async fn of_two_changes_at_once_the_later_is_refused_and_nothing_of_it_stays() {
    let bucket = Bucket::create().await;
    let (_, unlocked) = stored(&bucket).await;
    let (mut one, mut two) = (load(&bucket).await, load(&bucket).await);
    one.header
        .add_slot(&unlocked.master, &secret(2), Argon2Params::default())
        .unwrap();
    two.header
        .add_slot(&unlocked.master, &secret(3), Argon2Params::default())
        .unwrap();
    one.header.save(&bucket.store, one.expected).await.unwrap();
    assert!(matches!(
        two.header.save(&bucket.store, two.expected).await,
        Err(SaveError::Conflict)
    ));
    let now = load(&bucket).await;
    assert!(now.header == one.header);
    assert_eq!(now.header.revision(), 2);
    assert!(now.header.unlock(&secret(2)).is_ok());
    assert!(now.header.unlock(&secret(3)).is_err());
}

#[tokio::test]
async fn one_lost_or_damaged_object_is_made_up_for_by_the_other_and_repaired() {
    for (key, damage) in [
        (PRIMARY_KEY, "missing"),
        (PRIMARY_KEY, "flipped"),
        (PRIMARY_KEY, "empty"),
        (PRIMARY_KEY, "huge"),
        (COPY_KEY, "missing"),
        (COPY_KEY, "flipped"),
    ] {
        let bucket = Bucket::create().await;
        let (header, _) = stored(&bucket).await;
        match damage {
            "missing" => bucket.store.delete(&[key.to_owned()]).await.unwrap(),
            "empty" => bucket.write(key, Vec::new()).await,
            "huge" => bucket.write(key, vec![b' '; 3 << 20]).await,
            _ => bucket.change(key, |bytes| bytes[300] ^= 1).await,
        }
        let loaded = load(&bucket).await;
        assert!(loaded.header == header, "{key} {damage}");
        assert_eq!(
            loaded.source == HeaderSource::Primary,
            key == COPY_KEY,
            "{key} {damage}"
        );
        let unlocked = loaded.header.unlock(&secret(1)).unwrap();
        assert!(
            loaded.repair(&bucket.store, &unlocked).await.unwrap(),
            "{key} {damage}"
        );
        assert_eq!(bucket.read(PRIMARY_KEY).await, header.encode());
        assert_eq!(bucket.read(COPY_KEY).await, header.encode());
        let again = load(&bucket).await;
        assert_eq!(again.source, HeaderSource::Primary);
        assert!(!again.repair(&bucket.store, &unlocked).await.unwrap());
    }
}

#[tokio::test]
async fn a_change_that_crashed_between_its_two_writes_is_completed_by_the_next_mount() {
    let bucket = Bucket::create().await;
    let (mut header, unlocked) = stored(&bucket).await;
    header
        .add_slot(&unlocked.master, &secret(2), Argon2Params::default())
        .unwrap();
    bucket.write(PRIMARY_KEY, header.encode()).await;
    let loaded = load(&bucket).await;
    assert_eq!(loaded.header.revision(), 2);
    assert!(loaded.repair(&bucket.store, &unlocked).await.unwrap());
    assert_eq!(bucket.read(COPY_KEY).await, header.encode());
}

#[tokio::test]
async fn two_damaged_copies_are_damage_and_not_a_missing_volume() {
    let bucket = Bucket::create().await;
    stored(&bucket).await;
    bucket
        .change(PRIMARY_KEY, |bytes| bytes.truncate(100))
        .await;
    bucket.store.delete(&[COPY_KEY.to_owned()]).await.unwrap();
    let error = VolumeHeader::load(&bucket.store).await.unwrap_err();
    assert!(matches!(error, LoadError::Damaged { .. }), "{error}");
    assert!(error.to_string().ends_with("copy: missing"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_not_replaced_by_an_older_copy() {
    let bucket = Bucket::create().await;
    stored(&bucket).await;
    bucket
        .write(PRIMARY_KEY, br#"{"format": 7, "new": true}"#.to_vec())
        .await;
    let error = VolumeHeader::load(&bucket.store).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the volume has format 7, this program knows format 1: use a newer strongroom"
    );
}

#[tokio::test]
async fn a_header_of_another_volume_put_in_its_place_does_not_unlock() {
    let bucket = Bucket::create().await;
    stored(&bucket).await;
    let (other, _) = VolumeHeader::create(&secret(9), Argon2Params::default()).unwrap();
    bucket.write(PRIMARY_KEY, other.encode()).await;
    bucket.write(COPY_KEY, other.encode()).await;
    assert!(matches!(
        load(&bucket).await.header.unlock(&secret(1)),
        Err(UnlockError::WrongSecret(_))
    ));
}

#[tokio::test]
async fn an_old_header_put_back_shows_its_lower_revision() {
    let bucket = Bucket::create().await;
    let (_, unlocked) = stored(&bucket).await;
    let old = bucket.read(PRIMARY_KEY).await;
    let mut loaded = load(&bucket).await;
    loaded
        .header
        .change_slot(
            &unlocked.master,
            unlocked.slot,
            &secret(2),
            Argon2Params::default(),
        )
        .unwrap();
    loaded
        .header
        .save(&bucket.store, loaded.expected)
        .await
        .unwrap();
    assert_eq!(load(&bucket).await.header.revision(), 2);
    bucket.write(PRIMARY_KEY, old).await;
    assert_eq!(
        load(&bucket).await.header.revision(),
        1,
        "the caller compares it with what it has seen"
    );
}
