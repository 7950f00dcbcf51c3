//! Tiny writes all over a file whose stored bytes cannot be read in one place: what lies between
//! the writes there cannot be written along with them, so they are stored in small pieces.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    support::{
        lying::{Form, Kind, Lie, Op, Rule, Seen},
        mount::Mount,
        random::noise,
    },
    world::{EIO, World, at, within},
};

const MIB: u64 = 1 << 20;
const LEN: u64 = 6 * MIB;

/// The object of this part of the file cannot be read.
const HURT: std::ops::Range<u64> = 3 * MIB..4 * MIB;

const PIECE: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// The log says so of a file whose gaps cannot be read.
const TOLD: &str = "what is stored of it between byte";

/// Writes 333 pieces a MiB all over the file, and to the model; returns where those in the part
/// that cannot be read are.
fn write_crumbs(file: &File, seed: u64, model: &mut [u8]) -> BTreeSet<u64> {
    let slots = model.len() as u64 / PIECE;
    let pieces = model.len() * 333 / MIB as usize;
    let bytes = noise(seed, pieces * PIECE as usize);
    let places = noise(seed + 1000, pieces * 8);
    let mut hurt = BTreeSet::new();
    for (piece, place) in bytes.chunks(PIECE as usize).zip(places.chunks(8)) {
        let place = u64::from_le_bytes(place.try_into().unwrap());
        // In slots, so that none overwrites a part of another.
        let offset = place % slots * PIECE;
        file.write_all_at(piece, offset).unwrap();
        model[offset as usize..][..PIECE as usize].copy_from_slice(piece);
        if HURT.start <= offset && offset + PIECE <= HURT.end {
            hurt.insert(offset);
        }
    }
    hurt
}

/// An object of contents was stored whole.
fn is_stored(seen: &Seen) -> bool {
    let whole = matches!(seen.op, Op::Put | Op::Complete) && seen.kind == Kind::Data;
    whole && seen.status == Some(200)
}

/// Reads past the page cache.
fn read_at(mount: &Mount<'_>, offset: u64, len: u64) -> Result<Vec<u8>, i32> {
    let path = at(mount, "file");
    let read = move || {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(nix::libc::O_DIRECT);
        let mut bytes = vec![0; len as usize];
        match options.open(path)?.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(error),
        }
    };
    let ended = within(PATIENCE, read).expect("a read that ends");
    ended.map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// The written bytes are there, and those around them; where the store has nothing to read, a
/// reader is told so.
fn assert_there(mount: &Mount<'_>, written: &BTreeSet<u64>, model: &[u8]) {
    let expected = |from: u64, to: u64| &model[from as usize..to as usize];
    assert!(read_at(mount, 0, HURT.start).unwrap() == expected(0, HURT.start));
    assert!(read_at(mount, HURT.end, LEN - HURT.end).unwrap() == expected(HURT.end, LEN));
    for offset in written {
        let found = read_at(mount, *offset, PIECE);
        assert!(
            found == Ok(expected(*offset, offset + PIECE).to_vec()),
            "{offset}: {:?}",
            found.map(drop)
        );
    }
    let first = HURT.start.div_ceil(PIECE) * PIECE;
    let mut never = (first..HURT.end - PIECE).step_by(PIECE as usize);
    let never = never.find(|offset| !written.contains(offset)).unwrap();
    assert_eq!(read_at(mount, never, PIECE), Err(EIO));
}

/// Lines of the log that tell of it.
fn told(mount: &Mount<'_>) -> usize {
    let log = mount.log_text();
    let told = log.lines().filter(|line| line.contains(TOLD));
    told.inspect(|line| assert!(line.contains("WARN"), "{line}"))
        .count()
}

fn unread_gaps(mount: &Mount<'_>) -> u64 {
    mount.status()["counters"]["unread_gaps"].as_u64().unwrap()
}

#[test]
fn tiny_writes_are_stored_though_what_lies_between_them_cannot_be_read() {
    let lies: [(&str, Lie); 3] = [
        ("gone", Lie::refuse(404, Form::Code("NoSuchKey"))),
        ("refused", Lie::refuse(403, Form::Code("AccessDenied"))),
        (
            "damaged",
            Lie::change(|answer| {
                let bytes = answer.body.iter_mut().step_by(1000);
                bytes.for_each(|byte| *byte ^= 1);
            }),
        ),
    ];
    for (what, lie) in lies {
        eprintln!("the object is {what}");
        let world = World::start();
        let mut model = noise(1, LEN as usize);
        let mount = world.begin_mount(&world.site.scratch("state"), &[]);
        mount.wait_ready();
        let file = File::create(at(&mount, "file")).unwrap();
        let mut hurt = BTreeSet::new();
        for offset in (0..LEN).step_by(MIB as usize) {
            world.store.forget();
            let piece = &model[offset as usize..][..MIB as usize];
            file.write_all_at(piece, offset).unwrap();
            file.sync_all().unwrap();
            if offset == HURT.start {
                let seen = world.store.seen().into_iter();
                let puts = seen.filter(|seen| seen.op == Op::Put && seen.kind == Kind::Data);
                hurt.extend(puts.map(|put| put.key));
            }
        }
        assert!(!hurt.is_empty(), "no object of its own");
        drop(file);
        mount.unmount();

        let options = ["--refusal-timeout", "1s"];
        let mount = world.begin_mount(&world.site.scratch("second"), &options);
        mount.wait_ready();
        let rule = Rule::on([Op::Get]).keys(move |key| hurt.contains(key));
        let lied = world.store.lie(rule.always(lie));
        let file = OpenOptions::new().write(true).open(at(&mount, "file"));
        let file = file.unwrap();
        let mut written = write_crumbs(&file, 2, &mut model);
        file.sync_all().unwrap();
        assert!(lied.count() > 0, "nobody read what cannot be read");
        assert_eq!(told(&mount), 1, "{}", mount.log_text());
        let unread = unread_gaps(&mount);
        assert!(unread > 0);
        assert_there(&mount, &written, &model);

        // Again: it is counted each time, and told once.
        written.extend(write_crumbs(&file, 3, &mut model));
        file.sync_all().unwrap();
        assert!(unread_gaps(&mount) > unread);
        assert_eq!(told(&mount), 1, "{}", mount.log_text());
        mount.kill();
        drop(file);

        let options = ["--takeover", "--refusal-timeout", "1s"];
        let mount = world.begin_mount(&world.site.scratch("third"), &options);
        mount.wait_ready();
        assert_there(&mount, &written, &model);
        world.store.heal();
        assert!(fs::read(at(&mount, "file")).unwrap() == model);
        mount.unmount();
    }
}

/// A sweep over crumbs waits for the one before it, to write along with what that brought; but not
/// for ever.
#[test]
fn tiny_writes_behind_an_upload_that_hangs_go_out_after_five_seconds_and_all_of_them_are_there() {
    let world = World::start();
    let mut model = noise(1, 2 * MIB as usize);
    let mount = world.begin_mount(&world.site.scratch("state"), &[]);
    mount.wait_ready();
    let file = File::create(at(&mount, "file")).unwrap();
    file.write_all_at(&model, 0).unwrap();
    file.sync_all().unwrap();

    let rule = Rule::on([Op::Put, Op::Complete]).of([Kind::Data]);
    let held = world.store.lie(rule.once(Lie::Withhold));
    write_crumbs(&file, 2, &mut model);
    assert!(held.wait(PATIENCE), "nothing goes out by itself");
    world.store.forget();
    write_crumbs(&file, 3, &mut model);
    // Before the fsync begins: the kernel lets no write to a file pass its fsync.
    let last = model.len() / PIECE as usize * PIECE as usize;
    file.write_all_at(&[7; 10], last as u64).unwrap();
    model[last..][..10].fill(7);
    let other = file.try_clone().unwrap();
    let (done, synced) = mpsc::channel();
    let began = Instant::now();
    let syncing = thread::spawn(move || done.send(other.sync_all().map(|()| began.elapsed())));
    // The written bytes are in no object yet, so they are read from memory.
    assert_eq!(
        read_at(&mount, last as u64, 10).unwrap(),
        model[last..][..10]
    );

    let sent = |seen: &[Seen]| seen.iter().any(|seen| is_stored(seen) && !seen.lied);
    assert!(world.store.wait_seen(PATIENCE, sent), "it waits for ever");
    let waited = began.elapsed();
    eprintln!("the second object is in the store after {waited:?}");
    assert!(
        waited > Duration::from_secs(4),
        "it did not wait for what is on its way"
    );
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    // The bytes of the first sweep are not in the store, and come before these.
    thread::sleep(Duration::from_millis(500));
    assert!(synced.try_recv().is_err(), "fsync returned too early");
    world.store.heal();
    let healed = Instant::now();
    synced.recv_timeout(PATIENCE).unwrap().unwrap();
    eprintln!("fsync returned {:?} after the end", healed.elapsed());
    assert!(healed.elapsed() < Duration::from_secs(10));
    syncing.join().unwrap().unwrap();
    file.sync_all().unwrap();
    mount.kill();
    drop(file);

    let mount = world.begin_mount(&world.site.scratch("second"), &["--takeover"]);
    mount.wait_ready();
    assert!(fs::read(at(&mount, "file")).unwrap() == model);
    mount.unmount();
}
