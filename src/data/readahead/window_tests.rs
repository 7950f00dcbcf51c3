//! Windows beside a store that brings everything at once.

use super::*;
use crate::data::readahead::habit::EXPECTED_MIN;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const FILE: u64 = 1 << 30;

/// A reader that asks for 256 KiB at a time, and a store that brings all that is asked for at
/// once.
struct Reader {
    window: Window<u64>,
    at: u64,
    requests: Vec<u64>,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            window: Window::new(),
            at: 0,
            requests: Vec::new(),
        }
    }

    fn read(&mut self, size_max: u64, request_bytes: u64) {
        let mut let_go = Vec::new();
        let range = self.at..self.at + 256 * KIB;
        self.at = range.end;
        let wanted = self
            .window
            .on_read(range, size_max, request_bytes, FILE, &mut let_go);
        if let Some(wanted) = wanted {
            self.requests.push(wanted.end - wanted.start);
            self.window.push(wanted.clone(), wanted.start);
        }
    }
}

#[test]
fn a_window_opens_at_the_second_read_in_order_and_never_reaches_beyond_its_share() {
    let mut reader = Reader::new();
    reader.read(8 * MIB, 4 * MIB);
    assert!(reader.requests.is_empty(), "one read says nothing");
    for _ in 0..400 {
        reader.read(8 * MIB, 4 * MIB);
        let ahead = reader.window.frontier - reader.at;
        assert!(ahead <= 8 * MIB, "{ahead} ahead at {}", reader.at);
        if reader.at <= CERTAIN {
            assert!(ahead <= EARLY_MAX.max(reader.at / EARLY_SHARE));
        }
    }
    assert!(
        reader
            .requests
            .iter()
            .rev()
            .take(10)
            .all(|len| *len >= 2 * MIB)
    );
}

#[test]
fn a_reader_that_is_known_to_read_on_has_a_window_from_its_first_read_on() {
    let mut reader = Reader::new();
    reader.at = 50 * MIB;
    reader.window = Window::from(reader.at);
    for _ in 0..8 {
        reader.read(8 * MIB, 4 * MIB);
    }
    let ahead = reader.window.frontier - reader.at;
    assert!(
        reader.requests.first() == Some(&WINDOW_MIN) && ahead > EARLY_MAX,
        "{:?}, {ahead} ahead",
        reader.requests
    );
}

#[test]
fn a_reader_that_is_expected_to_read_to_the_end_has_a_large_window_if_it_begins_there() {
    let mut reader = Reader::new();
    reader.window = Window::expecting_the_end(EXPECTED_MIN);
    for _ in 0..16 {
        reader.read(8 * MIB, 4 * MIB);
        let ahead = reader.window.frontier - reader.at;
        assert!(
            ahead <= reader.at.max(EXPECTED_MIN),
            "{ahead} at {}",
            reader.at
        );
    }
    assert_eq!(reader.requests.first(), Some(&EXPECTED_MIN));

    let mut reader = Reader::new();
    reader.window = Window::expecting_the_end(EXPECTED_MIN);
    reader.at = MIB;
    reader.read(8 * MIB, 4 * MIB);
    assert!(reader.requests.is_empty(), "it begins elsewhere");
}

#[test]
fn a_window_tells_whether_its_reader_read_to_the_end() {
    let told = |mut window: Window<u64>, reads: &[Range<u64>]| {
        for read in reads {
            window.on_read(read.clone(), MIB, MIB, 4 * MIB, &mut Vec::new());
        }
        window.has_read_to_the_end()
    };
    let beginning = 0..4 * KIB;
    let whole: Vec<_> = (0..4).map(|at| at * MIB..(at + 1) * MIB).collect();
    assert_eq!(told(Window::new(), &whole), Some(true));
    assert_eq!(told(Window::new(), &whole[..2]), Some(false));
    let beginning = std::slice::from_ref(&beginning);
    assert_eq!(told(Window::new(), beginning), None, "too little");
    assert_eq!(
        told(Window::new(), &whole[3..]),
        None,
        "not from the beginning"
    );
    let expected = || Window::expecting_the_end(EXPECTED_MIN);
    assert_eq!(told(expected(), beginning), Some(false));
    assert_eq!(told(expected(), &[]), None);
    let index_left_out = [0..MIB, MIB..2 * MIB, 2 * MIB..3 * MIB + 700 * KIB];
    assert_eq!(told(expected(), &index_left_out), Some(true));
}

#[test]
fn a_window_that_is_no_larger_than_a_request_is_asked_for_as_a_whole() {
    let mut reader = Reader::new();
    for _ in 0..40 {
        reader.read(512 * KIB, 4 * MIB);
    }
    assert!(
        reader.requests.iter().skip(3).all(|len| *len == 512 * KIB),
        "{:?}",
        reader.requests
    );
}

#[test]
fn what_was_read_is_let_go_of_at_once_in_whatever_order_it_was_read() {
    let mut window: Window<u64> = Window::new();
    let mut let_go = Vec::new();
    window.push(0..MIB, 1);
    window.push(MIB..2 * MIB, 2);
    for start in [256, 0, 768] {
        window.on_read(
            start * KIB..(start + 256) * KIB,
            MIB,
            MIB,
            FILE,
            &mut let_go,
        );
        assert!(let_go.is_empty(), "a quarter is not read yet");
    }
    window.on_read(512 * KIB..768 * KIB, MIB, MIB, FILE, &mut let_go);
    assert_eq!(let_go, [1]);
    window.on_read(64 * MIB..65 * MIB, MIB, MIB, FILE, &mut let_go);
    assert_eq!(let_go, [1, 2], "nothing is kept where the reader is not");
}

#[test]
fn what_is_passed_by_without_being_read_is_let_go_of_too() {
    let mut window: Window<u64> = Window::new();
    let mut let_go = Vec::new();
    window.push(0..MIB, 1);
    for start in 1..4 {
        window.on_read(start * MIB..(start + 1) * MIB, MIB, MIB, FILE, &mut let_go);
    }
    assert_eq!(let_go, [1]);
}

#[test]
fn whoever_waits_in_line_asks_for_more_than_its_read_only_if_it_reads_in_order() {
    let mut reader = Reader::new();
    let next = |reader: &Reader| reader.at..reader.at + 256 * KIB;
    assert_eq!(reader.window.onward(&next(&reader), MIB), 0, "the first");
    reader.read(0, MIB);
    assert_eq!(reader.window.onward(&next(&reader), MIB), WINDOW_MIN);
    let elsewhere = 50 * MIB..50 * MIB + 4 * KIB;
    assert_eq!(reader.window.onward(&elsewhere, MIB), 0);
    let ahead = reader.at..reader.at + MIB;
    reader.window.push(ahead, 1);
    assert_eq!(reader.window.onward(&next(&reader), MIB), 0, "it has some");
}

#[test]
fn a_file_that_lies_scattered_is_asked_for_in_large_pieces_that_take_no_more_memory() {
    let mut reader = Reader::new();
    for _ in 0..200 {
        reader.read(8 * MIB, MIB);
    }
    reader.window.spread = 4;
    let before = reader.requests.len();
    for _ in 0..100 {
        reader.read(8 * MIB, MIB);
    }
    let after = reader.requests.get(before + 2..).expect("requests");
    // Four bytes are fetched for each, of twice the share: the old piece and the new one.
    assert!(
        after.iter().all(|len| (2 * MIB..=4 * MIB).contains(len)),
        "{after:?}"
    );
}

#[test]
fn a_window_gives_way_from_its_far_end_and_keeps_its_turn() {
    let mut window: Window<u64> = Window::new();
    window.push(0..MIB, 1);
    window.push(MIB..2 * MIB, 2);
    assert_eq!(window.shrink(MIB), Some((MIB, 2)));
    assert_eq!(window.shrink(MIB), None, "a turn is kept");
    assert_eq!(window.frontier, MIB);
    assert_eq!(window.shrink(0), Some((MIB, 1)));
    assert!(!window.is_active());
}
