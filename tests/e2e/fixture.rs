//! A volume of format 1 as it was written once: every later version opens it.

use std::{fs, path::Path};

use crate::support::{
    commands::shell,
    random::noise,
    site::{Site, Transport},
    tree::{Snapshot, snapshot},
};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/volume-1");

/// Makes the contents of the fixture. Times are set, so that two machines write the same.
fn fill(dir: &Path) {
    fs::create_dir(dir.join("dir")).unwrap();
    fs::write(dir.join("dir/small"), b"a small file").unwrap();
    fs::write(dir.join("two-frames"), noise(1, 70_000)).unwrap();
    fs::write(dir.join("empty"), b"").unwrap();
    shell(
        dir,
        "truncate -s 1M sparse; printf end >> sparse; ln two-frames dir/hard; ln -s ../empty dir/link
         setfattr -n user.note -v kept dir/small; setfacl -m u:1001:r dir/small; chmod 2750 dir; chown 12:34 empty
         find . -exec touch -h -d '1969-07-20 20:17:40.123456789 UTC' {} +",
    );
}

/// Names and attributes but the inode numbers, in a form to compare.
fn look(dir: &Path) -> Snapshot {
    snapshot(dir)
}

#[test]
fn a_stored_volume_of_format_1_opens_and_holds_what_it_held() {
    let site = Site::without_volume(Transport::Plain);
    site.bucket().create();
    for entry in walkdir::WalkDir::new(FIXTURE) {
        let entry = entry.expect("fixture");
        if entry.file_type().is_file() {
            let key = entry
                .path()
                .strip_prefix(FIXTURE)
                .expect("below")
                .to_str()
                .expect("key");
            site.bucket().put(
                &format!("laptop/{key}"),
                fs::read(entry.path()).expect("object"),
            );
        }
    }
    let expected = site.scratch("expected");
    fill(&expected);
    let mount = site.mount();
    crate::support::tree::assert_same(&look(&expected), &look(&mount.dir), "the stored volume");
    // It can be written to as well.
    fs::write(mount.dir.join("dir/new"), noise(2, 100_000)).unwrap();
    mount.unmount();
    let mount = site.mount();
    assert_eq!(
        fs::read(mount.dir.join("dir/new")).unwrap(),
        noise(2, 100_000)
    );
    mount.unmount();
}

#[test]
#[ignore = "writes into the source tree, when a new format needs a new fixture"]
fn write_the_stored_volume() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    fill(&mount.dir);
    mount.unmount();
    for key in site.bucket().keys() {
        let path = Path::new(FIXTURE).join(key.strip_prefix("laptop/").expect("below the prefix"));
        fs::create_dir_all(path.parent().expect("parent")).unwrap();
        fs::write(path, site.bucket().get(&key)).unwrap();
    }
}
