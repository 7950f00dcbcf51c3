//! The chain of log objects against a store that hides, swaps and shows again what it was given.

use std::{sync::Arc, time::Duration};

use slatedb::{DbReader, DbReaderMode, config::DbReaderOptions};
use strongroom::seal::object_store::LogFault;
use tokio::time::timeout;

use crate::{
    bucket::Bucket,
    log::{
        CACHE, Objects, PATIENCE, as_format_1, flush_memtable, healthy, hide, hide_newest, kill,
        killed, log_key, log_numbers, objects, open, put, refused, show, show_only, write_and_kill,
    },
};

#[tokio::test]
async fn a_fence_under_a_hidden_objects_number_is_found_when_what_followed_is_shown_again() {
    for hidden in 1..=3 {
        let bucket = Bucket::create().await;
        let head = killed(&bucket, 5).await;
        let original = objects(&bucket).await;
        let first = hide_newest(&bucket, head, hidden).await;
        // Interrupted as soon as it has written its fence.
        kill(open(&bucket.sealed(CACHE)).await.unwrap());
        assert_eq!(*log_numbers(&bucket).await.last().unwrap(), first);
        let fenced = objects(&bucket).await;

        // The fence stays in the place of the first one that was hidden.
        for shown in first + 1..=head.number {
            let others: Objects = (first + 1..=shown)
                .map(|number| (log_key(number), original[&log_key(number)].clone()))
                .collect();
            show_only(&bucket, &fenced).await;
            show(&bucket, &others).await;
            assert_eq!(
                refused(&bucket, &format!("{hidden} hidden, shown to {shown}")).await,
                LogFault::Diverges { number: first + 1 }
            );
        }
        // The fence goes, and everything else is back: nothing was lost, and nothing is refused.
        show_only(&bucket, &original).await;
        let rows: Vec<String> = (0..5).map(|i| format!("row{i}")).collect();
        healthy(&bucket, &rows).await;
    }
}

#[tokio::test]
async fn after_writing_over_a_hidden_end_of_the_log_each_original_that_is_shown_again_is_found() {
    for hidden in 1..=3 {
        let bucket = Bucket::create().await;
        let head = killed(&bucket, 5).await;
        let original = objects(&bucket).await;
        let first = hide_newest(&bucket, head, hidden).await;
        write_and_kill(&bucket, "other", 5).await;
        let other = objects(&bucket).await;
        // Any of them alone, and all of them.
        for number in first..=head.number {
            show_only(&bucket, &other).await;
            bucket
                .write(&log_key(number), original[&log_key(number)].clone())
                .await;
            let fault = refused(&bucket, &format!("{hidden} hidden, {number} shown")).await;
            assert!(
                (number..=number + 1).contains(&fault.number()),
                "{fault:?} for {number}"
            );
        }
        show_only(&bucket, &other).await;
        show(&bucket, &original).await;
        assert_eq!(
            refused(&bucket, &format!("{hidden} hidden, all shown")).await,
            LogFault::Diverges {
                number: head.number + 1
            }
        );
    }
}

#[tokio::test]
async fn what_a_manifest_notes_cannot_be_hidden_or_replaced_and_the_refusal_writes_nothing() {
    let bucket = Bucket::create().await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    put(&db, "a").await.unwrap();
    kill(db);
    let common = objects(&bucket).await;
    // One history, whose manifest notes its log.
    let store = bucket.sealed(CACHE);
    let db = open(&store).await.unwrap();
    for i in 0..3 {
        put(&db, &format!("one{i}")).await.unwrap();
    }
    let noted = store.log_head().unwrap();
    flush_memtable(&db).await;
    put(&db, "last").await.unwrap();
    kill(db);
    let one = objects(&bucket).await;
    // Another one from the same beginning, with the same numbers.
    show_only(&bucket, &common).await;
    write_and_kill(&bucket, "two", 4).await;
    let two = objects(&bucket).await;

    let number = noted.number;
    let last = log_key(number + 1);
    // The newest manifest is of the first history; the log after what it notes is of the second
    // one.
    let mut mixed = one.clone();
    mixed.insert(last.clone(), two[&last].clone());
    show_only(&bucket, &mixed).await;
    assert_eq!(
        refused(&bucket, "another history's end").await,
        LogFault::Diverges { number: number + 1 }
    );
    // The log that it notes was collected: its commitment is in the manifest all the same.
    for at in 1..=number {
        mixed.remove(&log_key(at));
    }
    show_only(&bucket, &mixed).await;
    assert_eq!(
        refused(&bucket, "another history's end, the rest collected").await,
        LogFault::Diverges { number: number + 1 }
    );
    // A mount that notes the last object, and then that is hidden.
    show_only(&bucket, &one).await;
    kill(open(&bucket.sealed(CACHE)).await.unwrap());
    hide(&bucket, &[last.clone(), log_key(number + 2)]).await;
    let before = objects(&bucket).await;
    for _ in 0..3 {
        assert_eq!(
            refused(&bucket, "the noted end is hidden").await,
            LogFault::Missing {
                number: number + 1,
                later: number + 1
            }
        );
    }
    assert!(
        objects(&bucket).await == before,
        "a refusal wrote something"
    );
}

#[tokio::test]
async fn what_this_machine_remembers_cannot_be_hidden_or_replaced_and_the_refusal_writes_nothing() {
    let bucket = Bucket::create().await;
    let head = killed(&bucket, 4).await;
    let original = objects(&bucket).await;
    for hidden in 1..=3 {
        show_only(&bucket, &original).await;
        let first = hide_newest(&bucket, head, hidden).await;
        let before = objects(&bucket).await;
        let store = bucket.sealed(CACHE);
        store.expect_log(head).unwrap();
        assert!(open(&store).await.is_err());
        // SlateDB looks for several at the same time.
        let fault = store.log_fault().unwrap();
        let hidden = first..=head.number;
        assert!(
            matches!(fault, LogFault::Missing { number, .. } if hidden.contains(&number)),
            "{fault:?}"
        );
        assert!(objects(&bucket).await == before);
        // The same numbers, written by somebody who knew nothing.
        write_and_kill(&bucket, "other", 4).await;
        let store = bucket.sealed(CACHE);
        store.expect_log(head).unwrap();
        assert!(open(&store).await.is_err());
        // Whichever is read first: the other object, or what continues it.
        let number = store.log_fault().unwrap().number();
        assert!((head.number..=head.number + 1).contains(&number));
        // A machine that accepts any log reads what is there.
        let store = bucket.sealed(CACHE);
        store.expect_log(head).unwrap();
        store.accept_any_log();
        let db = open(&store).await.unwrap();
        assert!(db.get("other3").await.unwrap().is_some());
        kill(db);
    }
}

#[tokio::test]
async fn who_accepts_it_opens_a_volume_whose_noted_end_is_gone() {
    let bucket = Bucket::create().await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    put(&db, "kept").await.unwrap();
    flush_memtable(&db).await;
    put(&db, "lost").await.unwrap();
    kill(db);
    let end = *log_numbers(&bucket).await.last().unwrap();
    // Notes the end in its manifest.
    kill(open(&bucket.sealed(CACHE)).await.unwrap());
    hide(&bucket, &[log_key(end), log_key(end + 1)]).await;
    refused(&bucket, "the noted end is hidden").await;
    let store = bucket.sealed(CACHE);
    store.accept_any_log();
    let db = open(&store).await.unwrap();
    assert!(db.get("kept").await.unwrap().is_some());
    assert!(db.get("lost").await.unwrap().is_none());
    put(&db, "more").await.unwrap();
    flush_memtable(&db).await;
    kill(db);
    healthy(&bucket, &["kept".into(), "more".into()]).await;
}

#[tokio::test]
async fn a_gap_and_an_object_of_another_history_are_found_wherever_they_are() {
    let bucket = Bucket::create().await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    put(&db, "a").await.unwrap();
    kill(db);
    let common = objects(&bucket).await;
    let mut histories = Vec::new();
    for name in ["one", "two"] {
        show_only(&bucket, &common).await;
        let db = open(&bucket.sealed(CACHE)).await.unwrap();
        for i in 0..6 {
            put(&db, &format!("{name}{i}")).await.unwrap();
        }
        kill(db);
        histories.push(objects(&bucket).await);
    }
    let (one, two) = (&histories[0], &histories[1]);
    let last = *log_numbers(&bucket).await.last().unwrap();
    let first = last - 6;
    for number in first..=last {
        show_only(&bucket, one).await;
        bucket
            .write(&log_key(number), two[&log_key(number)].clone())
            .await;
        // The last one continues nothing, the others are continued by nothing; the fence is the
        // common object's successor.
        if number == last || number > first {
            let fault = refused(&bucket, &format!("{number} swapped")).await;
            assert!((number..=number + 1).contains(&fault.number()), "{fault:?}");
        } else {
            assert_eq!(
                refused(&bucket, "the first swapped").await,
                LogFault::Diverges { number: number + 1 }
            );
        }
    }
    for number in 1..last {
        show_only(&bucket, one).await;
        hide(&bucket, &[log_key(number)]).await;
        let before = log_numbers(&bucket).await;
        let fault = refused(&bucket, &format!("{number} hidden")).await;
        assert!(
            matches!(fault, LogFault::Missing { number: missing, .. } if missing == number),
            "{fault:?}"
        );
        assert_eq!(log_numbers(&bucket).await, before, "{number} hidden");
    }
    show_only(&bucket, one).await;
    healthy(&bucket, &["a".into(), "one5".into()]).await;
}

#[tokio::test]
async fn an_object_without_a_link_is_refused_once_the_chain_has_begun() {
    let bucket = Bucket::create().await;
    let head = killed(&bucket, 4).await;
    let original = objects(&bucket).await;
    for number in head.number - 4..=head.number {
        show_only(&bucket, &original).await;
        let key = log_key(number);
        bucket
            .write(&key, as_format_1(&bucket, &key, &original[&key]))
            .await;
        let fault = refused(&bucket, &format!("{number} without a link")).await;
        assert!((number..=number + 1).contains(&fault.number()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_follower_does_not_go_over_to_another_history() {
    let bucket = Bucket::create().await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    put(&db, "a").await.unwrap();
    kill(db);
    let common = objects(&bucket).await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    for i in 0..4 {
        put(&db, &format!("one{i}")).await.unwrap();
    }
    kill(db);
    let one = objects(&bucket).await;
    show_only(&bucket, &common).await;
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    for i in 0..3 {
        put(&db, &format!("two{i}")).await.unwrap();
    }

    let store = bucket.sealed(CACHE);
    let options = DbReaderOptions {
        manifest_poll_interval: Duration::from_millis(50),
        ..DbReaderOptions::default()
    };
    let follower = DbReader::open(
        "",
        Arc::new(store.clone()),
        DbReaderMode::FollowLatest,
        options,
    )
    .await
    .unwrap();
    assert!(follower.get("two2").await.unwrap().is_some());
    put(&db, "two3").await.unwrap();
    timeout(PATIENCE, async {
        while follower.get("two3").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the follower does not follow");
    let head = store.log_head().unwrap();
    assert_eq!(store.log_fault(), None);
    kill(db);
    // The next object that it is shown is of the other history.
    let mut other = one.clone();
    for number in 1..=head.number {
        other.remove(&log_key(number));
    }
    assert!(other.contains_key(&log_key(head.number)) || other.len() > 1);
    let db = {
        // A longer first history, so that there is a next object.
        let now = objects(&bucket).await;
        show_only(&bucket, &one).await;
        let db = open(&bucket.sealed(CACHE)).await.unwrap();
        put(&db, "one4").await.unwrap();
        put(&db, "one5").await.unwrap();
        let longer = objects(&bucket).await;
        show_only(&bucket, &now).await;
        let next = log_key(head.number + 1);
        bucket.write(&next, longer[&next].clone()).await;
        db
    };
    timeout(PATIENCE, async {
        while store.log_fault().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("nothing is found");
    assert_eq!(
        store.log_fault(),
        Some(LogFault::Diverges {
            number: head.number + 1
        })
    );
    assert_eq!(store.log_head(), Some(head));
    assert!(follower.get("two3").await.unwrap().is_some());
    assert!(follower.get("one4").await.unwrap().is_none());
    kill(db);
}
