//! A volume's life: mounts that follow each other, and what is looked at in between.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::try_join_all;
use parking_lot::Mutex;
use strongroom::{
    meta::{Ino, Meta, SessionId},
    seal::keys::{VolumeId, VolumeKeys},
    telemetry::Metrics,
};

use crate::{
    audit::{audit, dead_followers_are_passed_over, look},
    client::{self, Client, FOLLOW_EVERY},
    found::Found,
    habits::Habits,
    machine,
    model::Model,
    network::Network,
    rng::Rng,
    stats::Stats,
    watch::watch,
    weather::Weather,
    worker::{PATIENCE, SharedModel, Worker},
};

/// Mounts in one life, and what each is used for.
const MOUNTS: std::ops::Range<u64> = 2..5;
const STEPS: std::ops::Range<u64> = 5..45;
/// Mounts in a life of many short ones, which leave many tables to compact.
const SHORT_MOUNTS: std::ops::Range<u64> = 6..14;
const SHORT_STEPS: std::ops::Range<u64> = 1..8;
/// One of so many lives has short mounts, and one goes on until all is cleared.
const SHORT_ONE_IN: u64 = 8;
const CLEARED_ONE_IN: u64 = 5;
/// A crash comes after at most so many requests.
const REQUESTS_TO_CRASH: u64 = 300;
/// All that dead sessions left is cleared after this: leftovers are looked for up to 2 h 22 min
/// after a mount, and what is found dead then goes two minutes later.
const ALL_CLEARED: Duration = Duration::from_secs(2 * 3600 + 30 * 60);
/// Most of it is after this.
const FIRST_CLEARED: Duration = Duration::from_secs(10 * 60);

/// Few enough, in a thousand, that four in a row hardly ever come: those are believed.
const STRAY_WHILE_LOOKING: u32 = 50;

/// A lease is renewed every 30 s, and whoever renews it finds out.
const NOTICED_WITHIN: Duration = Duration::from_secs(120);

/// A mount that is at work for longer hangs.
const MOUNT_MAX: Duration = Duration::from_secs(48 * 3600);

struct World {
    network: Network,
    keys: Arc<VolumeKeys>,
    rng: Mutex<Rng>,
    /// One for each that works on the volume at the same time.
    models: Vec<SharedModel>,
    clients: Mutex<u32>,
    /// Sessions that ended with an unmount.
    unmounted: Mutex<BTreeSet<SessionId>>,
    steps: std::ops::Range<u64>,
    habits: Habits,
    /// Counters of the clients since the last crash or unmount.
    metrics: Mutex<Vec<Arc<Metrics>>>,
}

/// One seed from its beginning to its end.
pub fn live(seed: u64, network: &Network) -> Result<Stats, String> {
    let mut rng = Rng::new(seed, 0);
    let short = rng.below(SHORT_ONE_IN) == 0;
    let mut world = World {
        network: network.clone(),
        keys: VolumeKeys::generate(VolumeId::generate()),
        rng: Mutex::new(Rng::new(seed, 2)),
        models: Vec::new(),
        clients: Mutex::new(0),
        unmounted: Mutex::default(),
        steps: if short { SHORT_STEPS } else { STEPS },
        habits: Habits::of(seed),
        metrics: Mutex::default(),
    };
    {
        let runtime = machine::runtime();
        world.models = runtime.block_on(world.format(rng.within(1..4)));
    }
    network.bury();
    for _ in 0..rng.within(if short { SHORT_MOUNTS } else { MOUNTS }) {
        world.one_runtime(world.mount())?;
    }
    network.calm();
    world.one_runtime(world.last_mount(rng.below(CLEARED_ONE_IN) == 0))?;
    network.count(|stats| {
        stats.seeds = 1;
        stats.simulated_seconds = machine::now().as_secs();
    });
    Ok(network.stats())
}

impl World {
    fn chance(&self, permille: u32) -> bool {
        self.rng.lock().permille(permille)
    }

    fn within(&self, range: std::ops::Range<u64>) -> u64 {
        self.rng.lock().within(range)
    }

    fn next_client(&self) -> u32 {
        let mut clients = self.clients.lock();
        *clients += 1;
        *clients
    }

    /// A new volume with a directory for each that will work on it.
    async fn format(&self, workers: u64) -> Vec<SharedModel> {
        let store = client::connect(&self.network, 0).await;
        store.create_bucket().await.unwrap();
        Meta::format(
            client::sealed(&store, &self.keys, self.habits.cache_bytes_max()),
            0,
            0,
        )
        .await
        .unwrap();
        let client = self.open(false).await.unwrap();
        let mut models = Vec::new();
        for number in 0..workers {
            let name = format!("worker-{number}");
            let made = client
                .fs
                .mkdir(client::ROOT, Ino::ROOT, name.as_bytes(), 0o755);
            let root = made.await.unwrap().ino.0;
            let model = Model::based_on(root, Found::default());
            models.push(Arc::new(Mutex::new(model)));
        }
        client.close().await.unwrap();
        models
    }

    /// Everything is durable.
    fn all_synced(&self) {
        for model in &self.models {
            model.lock().all_synced();
        }
    }

    /// Whether what was found may be there.
    fn check(&self, found: &Found) -> Result<(), String> {
        let mut names = self.models.len();
        for model in &self.models {
            let model = model.lock();
            let below = found.below(model.root);
            model.check(&below)?;
            names += below.names.len();
        }
        match names == found.names.len() {
            true => Ok(()),
            false => Err("there is what nobody made".to_owned()),
        }
    }

    fn workers(&self, client: &Arc<Client>) -> Vec<Worker> {
        let worker = |model: &SharedModel| {
            let rng = Rng::new(self.within(0..u64::MAX), 4);
            Worker::new(client.clone(), model.clone(), self.network.clone(), rng)
        };
        self.models.iter().map(worker).collect()
    }

    /// Lives until the mount is over, or everything dies.
    fn one_runtime(&self, mount: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let runtime = machine::runtime();
        let crashes = self.network.stats().crashes;
        let ended = runtime.block_on(async {
            self.network.resume();
            tokio::select! {
                biased;
                () = self.network.crashed() => {
                    self.network.count(|stats| stats.crashes += 1);
                    Ok(())
                }
                ended = tokio::time::timeout(MOUNT_MAX, mount) => {
                    ended.unwrap_or_else(|_| Err("a mount hangs".to_owned()))
                }
            }
        });
        drop(runtime);
        self.network.bury();
        self.count_moved(self.network.stats().crashes > crashes);
        ended
    }

    /// Counts what the clients of one runtime did in the background until it ended or crashed.
    fn count_moved(&self, crashed: bool) {
        let metrics = std::mem::take(&mut *self.metrics.lock());
        let sum = |of: fn(&Metrics) -> u64| metrics.iter().map(|each| of(each)).sum::<u64>();
        let defragmented_bytes = sum(|metrics| metrics.defragmented_bytes.get());
        self.network.count(|stats| {
            stats.defragmented_bytes += defragmented_bytes;
            stats.repacked_bytes += sum(|metrics| metrics.repacked_bytes.get());
            stats.slices += sum(|metrics| metrics.sent_slices.get());
            stats.crashes_after_tidying += u64::from(crashed && defragmented_bytes > 0);
        });
    }

    /// Opens the volume. In bad weather that may fail, and is tried again in fine weather.
    async fn open(&self, read_only: bool) -> Result<Arc<Client>, String> {
        loop {
            let number = self.next_client();
            let opened = Client::open(&self.network, number, &self.keys, self.habits, read_only);
            match tokio::time::timeout(PATIENCE, opened).await {
                Ok(Ok(client)) => {
                    self.metrics.lock().push(client.metrics.clone());
                    return Ok(Arc::new(client));
                }
                Ok(Err(error)) if !self.network.is_calm() => {
                    self.network
                        .note(format!("client {number} does not open: {error}"));
                    self.network.calm();
                }
                Ok(Err(error)) => return Err(format!("client {number} does not open: {error}")),
                Err(_) => return Err(format!("client {number} hangs at opening")),
            }
        }
    }

    /// Looks at all that is there after a mount, and takes it for what is durable from here on.
    async fn recovered(&self, client: &Client) -> Result<(), String> {
        self.network.calm();
        // Before anything is changed: who sees this generation sees what is found.
        let generation = client.meta.generation();
        if self.habits.stray > 0 {
            // Nothing is cached yet, and all of the metadata is read.
            self.network.set_weather(Weather {
                stray: STRAY_WHILE_LOOKING,
                ..Weather::CALM
            });
        }
        self.settled(client).await?;
        let found = look(client).await?;
        self.network.calm();
        self.network.count(|stats| stats.checks += 1);
        self.check(&found)?;
        for model in &self.models {
            let mut model = model.lock();
            let below = found.below(model.root);
            model.goes_on(below, generation);
        }
        self.network
            .note(format!("all is as found at generation {generation}"));
        self.counts_are_exact(client, false).await
    }

    /// Everything that earlier mounts left without a name is gone.
    async fn settled(&self, client: &Client) -> Result<(), String> {
        for _ in 0..600 {
            let orphans = client.meta.orphans(1).await;
            if orphans.map_err(|error| error.to_string())?.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("what an earlier mount left without a name stays".to_owned())
    }

    /// Counts are compared while nothing is dirty; repacking may be at work between two looks.
    async fn counts_are_exact(&self, client: &Client, all_cleared: bool) -> Result<(), String> {
        let unmounted = self.unmounted.lock().clone();
        let cleared = all_cleared.then_some(&unmounted);
        let mut why = String::new();
        for _ in 0..3 {
            match audit(client, &self.network, cleared).await {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Err(why)
    }

    async fn mount(&self) -> Result<(), String> {
        let network = &self.network;
        if self.chance(300) {
            let weather = match self.chance(500) {
                true => Weather::stormy(&mut self.rng.lock()),
                false => Weather::foggy(&mut self.rng.lock()),
            };
            network.set_weather(weather);
        }
        let dies = self.chance(700);
        if dies {
            let most = REQUESTS_TO_CRASH * self.habits.lives_longer();
            network.crash_after(self.within(1..most));
        }
        let mut client = self.open(false).await?;
        self.recovered(&client).await?;
        if self.chance(700) {
            self.storm();
        }
        let follower = match self.chance(200) {
            true => Some(self.open(true).await?),
            false => None,
        };
        let watch = follower.as_ref().map(|follower| {
            network.count(|stats| stats.followers += 1);
            tokio::spawn(watch(
                follower.clone(),
                self.models.clone(),
                network.clone(),
                Rng::new(self.within(0..u64::MAX), 3),
            ))
        });
        let mut taken_over = Vec::new();
        if self.chance(200) {
            let before = client.clone();
            client = self.take_over(client).await?;
            taken_over.push(before);
        } else {
            self.work(client.clone()).await?;
        }
        self.rest().await;
        if dies && self.chance(500) {
            self.work(client.clone()).await?;
        }
        if let Some(watch) = watch {
            watch.abort();
            if let Err(ended) = watch.await
                && ended.is_panic()
            {
                std::panic::resume_unwind(ended.into_panic());
            }
        }
        if dies {
            network.crash_now();
            return std::future::pending().await;
        }
        network.calm();
        if let Some(follower) = follower {
            self.follower_sees_all(&client, &follower).await?;
        }
        if self.chance(500) {
            drained(&client).await?;
            self.all_synced();
            self.counts_are_exact(&client, false).await?;
        }
        let closed = tokio::time::timeout(PATIENCE, client.close()).await;
        closed.map_err(|_| "an unmount hangs".to_owned())??;
        self.unmounted.lock().insert(client.meta.session());
        self.all_synced();
        network.count(|stats| stats.unmounts += 1);
        drop(taken_over);
        Ok(())
    }

    /// The mount is used for a while.
    async fn work(&self, client: Arc<Client>) -> Result<(), String> {
        let steps = self.within(self.steps.clone()) / self.models.len() as u64 + 1;
        let mut workers = self.workers(&client);
        let work = workers.iter_mut().map(async |worker| {
            for _ in 0..steps {
                self.change_weather();
                let step = tokio::time::timeout(PATIENCE, worker.step()).await;
                step.map_err(|_| "a step hangs".to_owned())??;
            }
            worker.stop().await;
            Ok::<(), String>(())
        });
        try_join_all(work).await.map(drop)
    }

    /// Nobody does anything for minutes: space is reclaimed, objects repacked, tables compacted.
    async fn rest(&self) {
        if self.chance(200) {
            let minutes = self.within(3..20);
            self.network.note(format!("{minutes} minutes of rest"));
            tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
        }
    }

    fn change_weather(&self) {
        if self.chance(15) {
            let lasts = Duration::from_secs(self.within(5..600));
            self.network.outage(lasts);
        } else if self.chance(30) {
            self.storm();
        }
    }

    /// Bad weather while the volume is mounted.
    fn storm(&self) {
        let weather = Weather::stormy(&mut self.rng.lock());
        self.network.set_weather(Weather {
            stray: self.habits.stray,
            ..weather
        });
    }

    /// Another mount takes the volume over while somebody uses it.
    async fn take_over(&self, first: Arc<Client>) -> Result<Arc<Client>, String> {
        let stop = Mutex::new(false);
        let steps = self.within(self.steps.clone()) * 3 / self.models.len() as u64 + 1;
        let mut workers = self.workers(&first);
        let work = workers.iter_mut().map(async |worker| {
            for _ in 0..steps {
                if *stop.lock() {
                    break;
                }
                self.change_weather();
                let step = tokio::time::timeout(PATIENCE, worker.step()).await;
                if step.map_err(|_| "a step hangs".to_owned())?.is_err() {
                    // It has lost the volume.
                    break;
                }
            }
            worker.stop().await;
            Ok::<(), String>(())
        });
        let second_opens = async {
            tokio::time::sleep(Duration::from_millis(self.within(0..60_000))).await;
            if self.chance(400) {
                self.network.cut_off(first.number);
                tokio::time::sleep(Duration::from_millis(self.within(0..60_000))).await;
            }
            let second = self.open(false).await;
            *stop.lock() = true;
            self.network.reconnect();
            self.network.count(|stats| stats.takeovers += 1);
            second
        };
        let (worked, second) = tokio::join!(try_join_all(work), second_opens);
        worked?;
        let second = second?;
        self.recovered(&second).await?;
        // Nothing is made durable by the first any more.
        let file = self.models.iter().find_map(|model| {
            let model = model.lock();
            let file = model.names().values().find(|entry| !entry.is_dir)?;
            file.number
        });
        if let Some(file) = file {
            let ino = Ino(file);
            if first.write(ino, 0, b"lost").await.is_ok() {
                let synced = tokio::time::timeout(PATIENCE, first.fs.fsync(ino)).await;
                match synced {
                    Ok(Err(_)) => {}
                    other => return Err(format!("a mount that lost its volume syncs: {other:?}")),
                }
            }
        }
        if let Some(lease) = &first.lease {
            let lost = tokio::time::timeout(NOTICED_WITHIN, lease.lost()).await;
            lost.map_err(|_| "a mount does not notice that its lease was taken".to_owned())?;
        }
        // The first may still be at work on what it believes to be its own.
        self.rest().await;
        self.work(second.clone()).await?;
        Ok(second)
    }

    /// In fine weather a follower sees what is durable after a while, and nothing else.
    async fn follower_sees_all(&self, client: &Client, follower: &Client) -> Result<(), String> {
        drained(client).await?;
        self.all_synced();
        tokio::time::sleep(FOLLOW_EVERY * 3 + Duration::from_secs(30)).await;
        let found = look(follower)
            .await
            .map_err(|why| format!("the follower: {why}"))?;
        let checked = self.check(&found);
        checked.map_err(|why| format!("the follower: {why}"))
    }

    /// All is quiet at the end: everything that was done is there, and nothing else.
    async fn last_mount(&self, all_cleared: bool) -> Result<(), String> {
        let client = self.open(false).await?;
        self.recovered(&client).await?;
        let time = if all_cleared {
            ALL_CLEARED
        } else {
            FIRST_CLEARED
        };
        tokio::time::sleep(time).await;
        if all_cleared {
            dead_followers_are_passed_over(&self.network).await;
        }
        self.counts_are_exact(&client, all_cleared).await?;
        let found = look(&client).await?;
        self.check(&found)?;
        client.close().await?;
        self.network.count(|stats| stats.unmounts += 1);
        Ok(())
    }
}

async fn drained(client: &Client) -> Result<(), String> {
    let drained = client.data.drain().await;
    drained.map_err(|error| format!("drain: {error}"))
}
