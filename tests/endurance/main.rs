//! Endurance: programs work on one volume for hours, while its mount is killed, taken over and
//! made anew, its server dies and comes back, and the store between them refuses, loses and repeats
//! requests. What programs were told is durable is compared byte by byte each time.
//!
//! Here with a few kills; `mount-scripts/test.sh --long` makes five hundred, and
//! `mount-scripts/test.sh --soak HOURS` lets everything run together for as long as it is told.
//!
//! ```text
//! scene     a volume, its server's process and the store between them that lies
//! stage     the mount that programs work on at present, and who works on it
//! load      the programs, and what each was promised
//! director  what happens to the mount and to the server
//! weather   what the store does to requests
//! samples   what is measured every ten seconds, and judged in the end
//! kills     five hundred of them
//! soak      everything together
//! ```

#[path = "../support/mod.rs"]
mod support;

mod director;
mod kills;
mod load;
mod samples;
mod scene;
mod soak;
mod stage;
mod weather;
