//! Fuzz targets of the files in which this machine notes its knowledge of a place.

use super::{
    form::{KnownJson, line_of, state_in_line},
    known::{Known, StateSeen},
};
use crate::seal::{keys::VolumeId, object_store::LogPosition};

const VOLUME: VolumeId = VolumeId([0xab; 16]);

/// `<place>.json`
pub(crate) fn file(bytes: &[u8]) {
    let Some(known) = KnownJson::read(bytes) else {
        return;
    };
    let text = KnownJson::write("place", &known).unwrap();
    assert_eq!(KnownJson::read(&text), Some(known));
}

/// `<place>.state`
pub(crate) fn line(bytes: &[u8]) {
    if let Some(state) = state_in_line(bytes, VOLUME) {
        let line = line_of(VOLUME, &state);
        assert_eq!(state_in_line(line.as_bytes(), VOLUME), Some(state));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with_log = StateSeen {
        generation: u64::MAX,
        log: Some(LogPosition {
            number: u64::MAX,
            commitment: [3; 32],
        }),
    };
    let known = |header_mac, state| Known {
        volume: VOLUME,
        header_revision: 3,
        header_mac,
        state,
    };
    let mut seeds = Vec::new();
    for state in [with_log, StateSeen::default()] {
        seeds.push([b"s", line_of(VOLUME, &state).as_bytes()].concat());
        for mac in [None, Some([9; 32])] {
            let json = KnownJson::write("http://x s3://y", &known(mac, state)).unwrap();
            seeds.push([b"j", json.as_slice()].concat());
        }
    }
    seeds
}
