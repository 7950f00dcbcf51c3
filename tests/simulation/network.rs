//! The network between the clients and the store: time, loss, repetition, outages, and the moment
//! at which everything here dies.
//!
//! A request that was sent is on its way by itself: whether its client still waits for it does not
//! matter to the store. So each is carried out by a task of its own, and those that a crash finds
//! on their way may be carried out in the life after it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use aws_smithy_runtime_api::client::result::ConnectorError;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    machine,
    rng::Rng,
    s3::{Answer, Operation, Request, S3, not_found},
    stats::Stats,
    weather::{Fate, Weather},
};

/// The client's side of an answered request.
type Reply = Result<Answer, ConnectorError>;

/// Requests of one seed: more than that is a loop that does not end.
const REQUESTS_MAX: u64 = 200_000;

/// Time after a storm in which an error that it made may still be reported.
const AFTERMATH: Duration = Duration::from_secs(300);

/// Lines of the trace that are kept.
const TRACE_LINES: usize = 20_000;

/// The way of one request.
struct Journey {
    id: u64,
    fate: Fate,
    there: Duration,
    back: Duration,
}

struct Travelling {
    client: u32,
    request: Arc<Request>,
}

struct State {
    s3: S3,
    rng: Rng,
    weather: Weather,
    /// Nothing reaches the store until then.
    down_until: Duration,
    /// A failure from before may be noticed a little later.
    calm_since: Duration,
    /// Clients that are cut off from it.
    cut_off: Vec<u32>,
    requests: u64,
    /// The request at which everything dies.
    crash_at: Option<u64>,
    crashed: bool,
    next: u64,
    travelling: BTreeMap<u64, Travelling>,
    /// Sent before the crash, and when they are carried out.
    late: Vec<(Duration, Travelling)>,
    trace: VecDeque<String>,
    digest: u64,
    stats: Stats,
}

/// The network and the store behind it. Outlives every runtime.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    crash: Arc<Notify>,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let state = State {
            s3: S3::default(),
            rng: Rng::new(seed, 1),
            weather: Weather::CALM,
            down_until: Duration::ZERO,
            calm_since: Duration::ZERO,
            cut_off: Vec::new(),
            requests: 0,
            crash_at: None,
            crashed: false,
            next: 0,
            travelling: BTreeMap::new(),
            late: Vec::new(),
            trace: VecDeque::new(),
            digest: 0,
            stats: Stats::default(),
        };
        Network {
            state: Arc::new(Mutex::new(state)),
            crash: Arc::new(Notify::new()),
        }
    }

    pub fn with_s3<T>(&self, look: impl FnOnce(&S3) -> T) -> T {
        look(&self.state.lock().s3)
    }

    pub fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.state.lock().stats);
    }

    pub fn stats(&self) -> Stats {
        self.state.lock().stats
    }

    pub fn set_weather(&self, weather: Weather) {
        let mut state = self.state.lock();
        if !state.weather.is_calm() {
            state.calm_since = machine::now() + AFTERMATH;
        }
        state.weather = weather;
    }

    /// Nothing reaches the store for so long.
    pub fn outage(&self, lasts: Duration) {
        let mut state = self.state.lock();
        state.down_until = machine::now() + lasts;
        state.calm_since = state.down_until + AFTERMATH;
        state.stats.outages += 1;
        state.note(format!("outage of {} s", lasts.as_secs()));
    }

    /// Whether whatever fails now fails by itself.
    pub fn is_calm(&self) -> bool {
        let state = self.state.lock();
        state.weather.is_calm() && state.calm_since <= machine::now() && state.cut_off.is_empty()
    }

    /// The sky clears.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        if !state.weather.is_calm() || state.down_until > machine::now() {
            state.calm_since = machine::now() + AFTERMATH;
        }
        state.weather = Weather::CALM;
        state.down_until = Duration::ZERO;
        state.cut_off.clear();
    }

    /// One client reaches the store no more.
    pub fn cut_off(&self, client: u32) {
        let mut state = self.state.lock();
        state.cut_off.push(client);
        state.note(format!("client {client} is cut off"));
    }

    /// All do again.
    pub fn reconnect(&self) {
        let mut state = self.state.lock();
        if !state.cut_off.is_empty() {
            state.cut_off.clear();
            state.calm_since = machine::now() + AFTERMATH;
        }
    }

    /// Everything dies at the request that comes after so many more.
    pub fn crash_after(&self, requests: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.requests + requests);
    }

    /// Everything dies now.
    pub fn crash_now(&self) {
        let mut state = self.state.lock();
        state.crashed = true;
        state.note("crash".into());
        drop(state);
        self.crash.notify_one();
    }

    /// Returns when everything is dead.
    pub async fn crashed(&self) {
        while !self.state.lock().crashed {
            self.crash.notified().await;
        }
    }

    /// Requests that were on their way when the last runtime ended are lost, or come later.
    pub fn bury(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        for (_, travelling) in std::mem::take(&mut state.travelling) {
            if state.rng.permille(500) {
                let later = machine::now() + later(&mut state.rng);
                state.late.push((later, travelling));
            }
        }
        state.crashed = false;
        state.crash_at = None;
        state.cut_off.clear();
    }

    /// In a new runtime: what was sent before still arrives.
    pub fn resume(&self) {
        let late = std::mem::take(&mut self.state.lock().late);
        for (at, travelling) in late {
            self.send_later(at.saturating_sub(machine::now()), travelling);
        }
    }

    fn send_later(&self, after: Duration, travelling: Travelling) {
        let id = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = state.next;
            state.travelling.insert(id, travelling);
            id
        };
        let network = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut state = network.state.lock();
            if let Some(travelling) = state.travelling.remove(&id) {
                state.stats.late += 1;
                state.carry_out(travelling.client, &travelling.request, "late");
            }
        });
    }

    /// The last lines of what happened.
    pub fn trace(&self) -> Vec<String> {
        self.state.lock().trace.iter().cloned().collect()
    }

    /// A digest of all of it.
    pub fn digest(&self) -> u64 {
        self.state.lock().digest
    }

    pub fn note(&self, line: String) {
        self.state.lock().note(line);
    }

    /// The way of a request once it is sent, whether or not anybody waits for it. `None`: it will
    /// have no answer.
    pub async fn travel(self, client: u32, request: Request) -> Option<Reply> {
        let request = Arc::new(request);
        let sent = self.state.lock().sends(client, &request);
        let Some(journey) = sent else {
            self.crash.notify_one();
            return None;
        };
        tokio::time::sleep(journey.there).await;
        let (done, again) = self.state.lock().meets(client, &request, &journey)?;
        if let Some(after) = again {
            self.send_later(after, Travelling { client, request });
        }
        let done = done?;
        tokio::time::sleep(journey.back).await;
        (!self.state.lock().crashed).then_some(done)
    }
}

/// A minute at most, or the twenty for which leftovers are looked for more than once.
fn later(rng: &mut Rng) -> Duration {
    match rng.permille(100) {
        true => Duration::from_secs(rng.within(60..1200)),
        false => Duration::from_millis(rng.within(10..60_000)),
    }
}

impl State {
    fn note(&mut self, line: String) {
        let line = format!("{:>12.3} {line}", machine::now().as_secs_f64());
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.trace.len() >= TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    fn now_seconds(&self) -> u64 {
        machine::EPOCH_SECONDS + machine::now().as_secs()
    }

    fn times(&mut self) -> (Duration, Duration) {
        let latency = self.weather.latency_ms.max(2);
        let mut part = || Duration::from_millis(1 + self.rng.below(latency));
        (part(), part())
    }

    fn sends(&mut self, client: u32, request: &Arc<Request>) -> Option<Journey> {
        let fate = self.fate_of(client, request)?;
        let (there, back) = self.times();
        self.next += 1;
        let id = self.next;
        if fate != Fate::Reset && fate != (Fate::Silent { acts: false }) {
            let request = Arc::clone(request);
            self.travelling.insert(id, Travelling { client, request });
        }
        Some(Journey {
            id,
            fate,
            there,
            back,
        })
    }

    /// `None`: nobody is there any more.
    fn fate_of(&mut self, client: u32, request: &Request) -> Option<Fate> {
        if self.crashed {
            return None;
        }
        self.requests += 1;
        self.stats.requests += 1;
        assert!(self.requests < REQUESTS_MAX, "requests without end");
        if self.crash_at.is_some_and(|at| self.requests >= at) {
            self.crashed = true;
            self.note(format!("crash at {}", shown(client, request)));
            // Sent or not.
            if self.rng.permille(500) {
                self.next += 1;
                let travelling = Travelling {
                    client,
                    request: Arc::new(request.clone()),
                };
                self.travelling.insert(self.next, travelling);
            }
            return None;
        }
        if self.cut_off.contains(&client) || machine::now() < self.down_until {
            return Some(match self.rng.permille(800) {
                true => Fate::Reset,
                false => Fate::Silent { acts: false },
            });
        }
        Some(self.fate(request))
    }

    fn fate(&mut self, request: &Request) -> Fate {
        let weather = self.weather;
        let operation = request.operation();
        let rng = &mut self.rng;
        let is_write = !matches!(
            operation,
            Operation::Get
                | Operation::Head
                | Operation::List
                | Operation::ListParts
                | Operation::ListMultipartUploads
        );
        if rng.permille(weather.error) {
            return match rng.below(3) {
                0 => Fate::Refused(500, "InternalError"),
                1 => Fate::Refused(503, "SlowDown"),
                _ => Fate::DoneAndRefused,
            };
        }
        if rng.permille(weather.denied) {
            return Fate::Refused(403, "AccessDenied");
        }
        let is_data = request.key.starts_with("volume/data/");
        if rng.permille(weather.missing) && (is_write || is_data) {
            return Fate::Refused(404, not_found(operation));
        }
        let is_meta_read = !is_write && request.key.starts_with("volume/meta/");
        if rng.permille(weather.hidden) && is_meta_read {
            return Fate::Refused(404, not_found(operation));
        }
        // No number is drawn where there are none, so the lives without are the same as ever.
        if weather.stray > 0 && is_meta_read && rng.permille(weather.stray) {
            self.stats.strays += 1;
            return Fate::Refused(404, not_found(operation));
        }
        if rng.permille(weather.reset) {
            return Fate::Reset;
        }
        if rng.permille(weather.lost) {
            return Fate::Lost;
        }
        if rng.permille(weather.silent) {
            return Fate::Silent {
                acts: rng.permille(500),
            };
        }
        if is_write && rng.permille(weather.duplicated) {
            return Fate::Duplicated(later(rng));
        }
        if is_write && rng.permille(weather.late) {
            return Fate::Late(later(rng));
        }
        if operation == Operation::Get && rng.permille(weather.broken) {
            return Fate::Broken;
        }
        Fate::Done
    }

    /// The request has come to the store. Its answer, if there will be one, and after how long it
    /// comes once more. `None`: nobody is there any more.
    fn meets(
        &mut self,
        client: u32,
        request: &Request,
        journey: &Journey,
    ) -> Option<(Option<Reply>, Option<Duration>)> {
        if self.crashed {
            return None;
        }
        self.travelling.remove(&journey.id);
        let fate = journey.fate;
        if fate != Fate::Done {
            self.stats.faults += 1;
        }
        let again = match fate {
            Fate::Duplicated(after) | Fate::Late(after) => Some(after),
            _ => None,
        };
        let answer = match fate {
            Fate::Done => Ok(self.carry_out(client, request, "")),
            Fate::Duplicated(_) => Ok(self.carry_out(client, request, "and again later")),
            Fate::Refused(status, code) => {
                self.note(format!("{} -> {status} {code}", shown(client, request)));
                Ok(Answer::error(status, code))
            }
            Fate::DoneAndRefused => {
                self.carry_out(client, request, "but answered 500");
                Ok(Answer::error(500, "InternalError"))
            }
            Fate::Reset | Fate::Late(_) => {
                self.note(format!("{} -> {fate:?}", shown(client, request)));
                Err(reset())
            }
            Fate::Lost => {
                self.carry_out(client, request, "answer lost");
                Err(reset())
            }
            Fate::Silent { acts: true } => {
                self.carry_out(client, request, "no answer");
                return Some((None, again));
            }
            Fate::Silent { acts: false } => {
                self.note(format!("{} -> silence", shown(client, request)));
                return Some((None, again));
            }
            Fate::Broken => {
                let mut answer = self.carry_out(client, request, "body broken");
                let len = answer.body.len() as u64;
                if len > 0 {
                    let keep = self.rng.below(len) as usize;
                    answer.body.truncate(keep);
                }
                Ok(answer)
            }
        };
        Some((Some(answer), again))
    }

    fn carry_out(&mut self, client: u32, request: &Request, how: &str) -> Answer {
        let now = self.now_seconds();
        let answer = self.s3.carry_out(request, now);
        self.note(format!(
            "{} -> {} {how}",
            shown(client, request),
            answer.status
        ));
        answer
    }
}

fn shown(client: u32, request: &Request) -> String {
    let mut line = format!("client {client} {:?} {}", request.operation(), request.key);
    for name in ["prefix", "partNumber", "uploadId"] {
        if let Some(value) = request.query.get(name) {
            line += &format!(" {name}={value}");
        }
    }
    if let Some(range) = request.headers.get("range") {
        line += &format!(" {range}");
    }
    // A lease names its process, whose number is longer or shorter.
    if !request.body.is_empty() && request.key != "volume/lease" {
        line += &format!(" {} bytes", request.body.len());
    }
    line
}

fn reset() -> ConnectorError {
    ConnectorError::io(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}
