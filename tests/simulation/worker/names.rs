//! Names: given, moved, exchanged, removed, and listed.

use nix::fcntl::RenameFlags;
use strongroom::meta::Ino;

use super::*;

use crate::{
    client::ROOT,
    found::{Number, Place},
    model::Entry,
};

impl Worker {
    /// Writes a new file and renames it over another, as editors do.
    pub(super) async fn replace(&mut self) -> Step {
        let Some((target, old)) = self.some_file() else {
            return Ok(());
        };
        let temporary = (target.0, format!("{}~", target.1));
        if self.model.lock().entry(&temporary).is_some() {
            return Ok(());
        }
        self.did(format!("replace {} ({old})", shown(&target)));
        self.create_at(&temporary).await?;
        let number = self.model.lock().names()[&temporary].number.unwrap();
        let len = self.some_len();
        self.write_at(number, 0, len).await?;
        if self.rng.permille(300) {
            self.sync_of(number).await?;
        }
        self.rename_to(&temporary, &target).await
    }

    pub(super) async fn rename(&mut self) -> Step {
        let dirs = self.dirs();
        if self.rng.permille(150)
            && let Some(from) = self.rng.pick(&dirs).cloned()
        {
            let to = (self.root, (*self.rng.pick(&DIRS).unwrap()).to_owned());
            if self.model.lock().entry(&to).is_none() {
                return self.rename_to(&from, &to).await;
            }
            return Ok(());
        }
        let Some((from, number)) = self.some_file() else {
            return Ok(());
        };
        let to = self.some_place();
        let there = self.model.lock().entry(&to);
        let fits = there.is_none_or(|there| !there.is_dir && there.number != Some(number));
        match fits && from != to {
            true => self.rename_to(&from, &to).await,
            false => Ok(()),
        }
    }

    pub(super) async fn rename_to(&mut self, from: &Place, to: &Place) -> Step {
        self.did(format!("rename {} to {}", shown(from), shown(to)));
        let replaced = self.model.lock().entry(to);
        self.model.lock().rename(from, to);
        self.rename_with(from, to, RenameFlags::empty()).await?;
        if let Some(number) = replaced.and_then(|replaced| replaced.number) {
            self.client.fs.forget(Ino(number));
        }
        Ok(())
    }

    pub(super) async fn rename_with(
        &mut self,
        from: &Place,
        to: &Place,
        flags: RenameFlags,
    ) -> Step {
        let fs = &self.client.fs;
        let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
        let renamed = fs.rename(Ino(from.0), from_name, Ino(to.0), to_name, flags);
        renamed.await.map_err(|error| self.failed("rename", error))
    }

    pub(super) async fn exchange(&mut self) -> Step {
        let (Some((one, first)), Some((other, second))) = (self.some_file(), self.some_file())
        else {
            return Ok(());
        };
        if first == second {
            return Ok(());
        }
        self.did(format!("exchange {} and {}", shown(&one), shown(&other)));
        self.model.lock().exchange(&one, &other);
        self.rename_with(&one, &other, RenameFlags::RENAME_EXCHANGE)
            .await
    }

    pub(super) async fn link(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let place = self.some_place();
        if self.model.lock().entry(&place).is_some() {
            return Ok(());
        }
        self.did(format!("link {number} to {}", shown(&place)));
        let entry = Entry {
            number: Some(number),
            is_dir: false,
        };
        self.model.lock().change_names(|state| {
            state.names.insert(place.clone(), entry);
        });
        let fs = &self.client.fs;
        let linked = fs.link(Ino(number), Ino(place.0), place.1.as_bytes()).await;
        linked.map(drop).map_err(|error| self.failed("link", error))
    }

    pub(super) async fn unlink(&mut self) -> Step {
        let Some((place, number)) = self.some_file() else {
            return Ok(());
        };
        if self.handles.len() < HANDLES_MAX && self.rng.permille(300) {
            self.open(number).await?;
        }
        self.did(format!("unlink {} ({number})", shown(&place)));
        self.unlink_at(&place).await
    }

    pub(super) async fn directory(&mut self) -> Step {
        let place = (self.root, (*self.rng.pick(&DIRS).unwrap()).to_owned());
        let there = self.model.lock().entry(&place);
        let (dir, name) = (Ino(place.0), place.1.as_bytes());
        let Some(there) = there else {
            self.did(format!("mkdir {}", shown(&place)));
            let entry = Entry {
                number: None,
                is_dir: true,
            };
            self.model.lock().change_names(|state| {
                state.names.insert(place.clone(), entry);
            });
            let made = self.client.fs.mkdir(ROOT, dir, name, 0o755).await;
            let made = made.map_err(|error| self.failed("mkdir", error))?;
            self.model.lock().made(&place, made.ino.0);
            return Ok(());
        };
        let is_empty = {
            let model = self.model.lock();
            !model
                .names()
                .keys()
                .any(|(dir, _)| Some(*dir) == there.number)
        };
        self.did(format!("rmdir {}", shown(&place)));
        if is_empty {
            self.model.lock().unlink(&place);
        }
        let removed = self.client.fs.rmdir(dir, name).await;
        match removed {
            Err(error) if error.errno == nix::errno::Errno::ENOTEMPTY && !is_empty => Ok(()),
            Ok(()) if !is_empty => panic!("{place:?} was removed and is not empty"),
            Ok(()) => {
                self.client.fs.forget(Ino(there.number.unwrap()));
                Ok(())
            }
            other => other.map_err(|error| self.failed("rmdir", error)),
        }
    }

    pub(super) async fn list(&mut self) -> Step {
        self.did("list".to_owned());
        let mut expected: Vec<(String, Option<Number>)> = {
            let model = self.model.lock();
            let names = model.names().iter();
            let root = names.filter(|((dir, _), _)| *dir == self.root);
            root.map(|((_, name), entry)| (name.clone(), entry.number))
                .collect()
        };
        expected.sort();
        let fs = &self.client.fs;
        let fh = fs.opendir(Ino(self.root)).await;
        let fh = fh.map_err(|error| self.failed("opendir", error))?;
        let (mut listed, mut cookie) = (Vec::new(), 0);
        loop {
            let page = fs.read_dir(fh, cookie, false).await;
            let page = page.map_err(|error| self.failed("read_dir", error))?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            listed.extend(page.into_iter().filter_map(|entry| {
                let name = String::from_utf8(entry.name.to_vec()).unwrap();
                (name != "." && name != "..").then_some((name, Some(entry.ino.0)))
            }));
        }
        fs.releasedir(fh);
        listed.sort();
        assert_eq!(listed, expected, "the listing is another");
        Ok(())
    }
}
