//! `top` costs the mount next to nothing.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::support::{
    har,
    site::{Site, Transport},
    terminal::TerminalProgram,
};

const LIMIT: u64 = 128 << 20;

/// Asks as `top` does, for as long as `stop` is not set, without a pause.
fn ask(socket: &Path, stop: &AtomicBool, answers: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = UnixStream::connect(socket).expect("connected");
        stream
            .write_all(b"{\"request\":\"activity\"}\n")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\"bounds_us\""), "{answer}");
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the asking, also when the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn memory_stays_below_its_limit_while_top_looks_and_requests_are_recorded() {
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let (socket, recording) = (site.path().join("m.sock"), site.path().join("traffic.har"));
    let mount = site.mount_with(&[
        "--metrics-listen",
        &format!("unix:{}", socket.display()),
        "--record",
        recording.to_str().expect("a path"),
    ]);
    let attribute = xattr::get(&mount.dir, "user.strongroom.control").expect("an attribute");
    let socket = String::from_utf8(attribute.expect("a socket")).expect("a path");
    let dir = mount.dir.to_str().expect("a path");
    let mut run = site.strongroom(&["top", dir]);
    let mut top = TerminalProgram::start(&mut run.command, 80, 24);
    top.wait_for_text("mounted, writable");
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _stops = Stops(&stop);
        for _ in 0..4 {
            scope.spawn(|| ask(Path::new(&socket), &stop, &answers));
        }
        // Many handles, of which each has moved something.
        let small: Vec<File> = (0..2000)
            .map(|number| {
                let mut file =
                    File::create(mount.dir.join(format!("small{number}"))).expect("create");
                file.write_all(&[1; 4096]).expect("written");
                file
            })
            .collect();
        let mut large = File::create(mount.dir.join("large.bin")).expect("create");
        for turn in 0..400_u32 {
            large
                .write_all(&vec![turn as u8; 1 << 20])
                .expect("written");
        }
        large.sync_all().expect("synced");
        top.wait_for_text("large.bin");
        drop((small, large));
        assert_eq!(
            fs::read(mount.dir.join("large.bin")).expect("read").len(),
            400 << 20
        );
    });
    let most = mount.memory_bytes("VmHWM");
    let answers = answers.load(Ordering::Relaxed);
    eprintln!("{answers} answers; {} KiB resident at most", most >> 10);
    assert!(answers > 20, "{answers} answers");
    assert!(most < LIMIT, "{most} bytes");
    top.press("q");
    assert_eq!(top.end().0, 0);
    mount.unmount();
    assert!(har::read(&recording).len() > 50);
}
