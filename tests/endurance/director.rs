//! Events in the life of the mount and the server: deaths, takeovers, remounts, checks.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    scene::Scene,
    stage::{Life, Stage},
    support::{commands::said, mount::Mount},
};

/// Programs end on a mount that died or was lost within this, at the latest because they are
/// killed.
const LEFT_WITHIN: Duration = Duration::from_secs(90);

/// Programs end a round within this, though the store is ill at times.
const ROUND_WITHIN: Duration = Duration::from_secs(300);

/// The exit code of a mount whose volume was taken over.
const LOST: i32 = 25;

/// The machines that mount: each remembers what it has seen of the volume.
const MACHINE: &str = "machine";
const OTHER_MACHINE: &str = "other-machine";

pub struct Director<'a> {
    pub scene: &'a Scene,
    pub stage: &'a Stage,
    lives: u32,
    life: Option<Arc<Life>>,
    mount: Option<Mount<'a>>,
}

impl Drop for Director<'_> {
    /// Programs at work on the mount that goes now were interrupted.
    fn drop(&mut self) {
        if let Some(life) = &self.life {
            self.stage.doom(life);
        }
        self.stage.end();
    }
}

impl<'a> Director<'a> {
    /// With a first mount.
    pub fn begin(scene: &'a Scene, stage: &'a Stage) -> Result<Director<'a>, String> {
        let mut director = Director {
            scene,
            stage,
            lives: 0,
            life: None,
            mount: None,
        };
        director.mount()?;
        Ok(director)
    }

    /// Mounts anew, and lets everybody in.
    pub fn mount(&mut self) -> Result<(), String> {
        let mount = self.scene.mount(MACHINE, &[])?;
        self.let_in(mount);
        Ok(())
    }

    fn let_in(&mut self, mount: Mount<'a>) {
        self.lives += 1;
        self.life = Some(self.stage.open(self.lives, &mount));
        self.mount = Some(mount);
    }

    fn take(&mut self) -> (Mount<'a>, Arc<Life>) {
        let mount = self.mount.take().expect("mounted");
        (mount, self.life.take().expect("mounted"))
    }

    /// SIGKILL for the mount. It stays in the way until everybody has left it: nobody takes the
    /// directory below for the volume.
    pub fn kill_mount(&mut self) -> Result<(), String> {
        let (mut mount, life) = self.take();
        self.stage.doom(&life);
        mount.kill_process();
        self.stage.wait_left(&life, LEFT_WITHIN)
    }

    /// SIGKILL for the server, which is back after a while.
    pub fn kill_server(&self, away: Duration) {
        let mut server = self.scene.server.lock().expect("server");
        server.end();
        std::thread::sleep(away);
        server.start_again();
    }

    /// SIGKILL for both, the server first; it is back before the next mount.
    pub fn kill_both(&mut self, away: Duration) -> Result<(), String> {
        let scene = self.scene;
        let mut server = scene.server.lock().expect("server");
        server.end();
        std::thread::sleep(away);
        let killed = self.kill_mount();
        server.start_again();
        killed
    }

    /// Another machine takes the volume while programs work on the mount that has it.
    pub fn take_over(&mut self) -> Result<(), String> {
        let (mut mount, life) = self.take();
        self.stage.doom(&life);
        let other = self.scene.mount(OTHER_MACHINE, &["--takeover"])?;
        self.let_in(other);
        self.stage.wait_left(&life, LEFT_WITHIN)?;
        let status = Command::new("fusermount3")
            .arg("-uz")
            .arg(&mount.dir)
            .status();
        let status = status.map_err(|error| error.to_string())?;
        match mount.wait_gone() {
            LOST if status.success() => Ok(()),
            code => Err(format!(
                "mount {} ended with {code} after it was taken over, fusermount3 with {status}: {}",
                life.number,
                mount.log_text()
            )),
        }
    }

    /// Unmounts in all quiet, and everything is durable then.
    pub fn unmount(&mut self, by_command: bool) -> Result<(), String> {
        let life = self.life.clone().expect("mounted");
        self.stage.close(&life, ROUND_WITHIN)?;
        let (mut mount, life) = self.take();
        self.stage.doom(&life);
        if by_command {
            let dir = mount.dir.to_str().expect("path").to_owned();
            let output = self.scene.site.strongroom(&["umount", &dir]).output();
            if !output.status.success() {
                return Err(format!("umount: {}", said(&output)));
            }
        } else {
            mount.let_go();
        }
        match mount.wait_gone() {
            0 => Ok(()),
            code => Err(format!(
                "mount {} ended with {code}: {}",
                life.number,
                mount.log_text()
            )),
        }
    }

    /// `fsck --data`, and how many seconds it took.
    pub fn check(&self) -> Result<(serde_json::Value, f64), String> {
        let began = Instant::now();
        let summary = self.scene.fsck()?;
        Ok((summary, began.elapsed().as_secs_f64()))
    }

    /// `gc` without a mount; after it the bucket holds nothing that the metadata does not name.
    /// Returns what `gc` found.
    pub fn sweep(&self) -> Result<serde_json::Value, String> {
        let swept = self.scene.gc(&[])?;
        let again = self.scene.gc(&["--dry-run"])?;
        let summary = self.scene.fsck()?;
        let held = self.scene.held().ok_or("the bucket cannot be listed")?;
        let uploads = self.scene.uploads().ok_or("uploads cannot be listed")?;
        // An object without live bytes stays for two minutes: its name is in the garbage list.
        let named = [
            &summary["objects"],
            &again["garbage_kept_objects"],
            &again["garbage_objects"],
        ];
        let named: u64 = named.iter().filter_map(|count| count.as_u64()).sum();
        // A sweep takes a while, and more of that list comes of age meanwhile.
        let is_clean = again["freed_bytes"] == again["garbage_bytes"]
            && again["left_objects"] == 0
            && again["orphans"] == 0
            && again["uploads"] == 0
            && summary["unnamed_objects"] == 0
            && named == held.data_objects
            && uploads == 0;
        match is_clean {
            true => Ok(swept),
            false => Err(format!(
                "after gc found {swept} there are {held:?} and {uploads} uploads; gc again: {again}; fsck: {summary}"
            )),
        }
    }
}
