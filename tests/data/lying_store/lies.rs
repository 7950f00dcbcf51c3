//! The lies.

use std::{sync::Arc, time::Duration};

use crate::support::lying::{
    Endless, Form, Lie,
    answer::{Answer, broken},
};

/// Longer than the store may keep a request waiting.
const TOO_LONG: Duration = Duration::from_secs(5);

/// About what is fetched. `other` are the bytes of another object, and longer than what they stand
/// for.
pub fn of_reads(other: &Arc<Vec<u8>>) -> Vec<(&'static str, Lie)> {
    let change = |change: fn(&mut Answer)| Lie::change(change);
    vec![
        ("a flipped bit", change(broken::flip)),
        ("a body that breaks off", change(broken::cut_off)),
        ("a body that does not begin", change(broken::empty)),
        ("half of it", change(broken::short)),
        ("one byte of it", change(broken::one_byte)),
        ("more than it", change(broken::longer)),
        ("200 with nothing", change(broken::nothing)),
        ("another label", change(broken::mislabelled)),
        ("the next frame", Lie::OtherRange((64 << 10) + 16)),
        ("a byte further", Lie::OtherRange(1)),
        ("another object", Lie::Instead(other.clone())),
        ("404", Lie::refuse(404, Form::Code("NoSuchKey"))),
        ("403", Lie::refuse(403, Form::Code("AccessDenied"))),
        ("503", Lie::refuse(503, Form::Code("SlowDown"))),
        ("a foreign 200", change(foreign)),
        ("a reset", Lie::ResetBefore),
        ("no answer", Lie::Hang(TOO_LONG)),
        ("headers without end", Lie::Endless(Endless::Headers)),
        ("an object without end", Lie::Endless(Endless::Object)),
    ]
}

/// Answers as a proxy on the way that wants somebody to log in.
fn foreign(answer: &mut Answer) {
    answer.body = b"<html><body>log in first</body></html>".to_vec();
    answer.status = 200;
    answer.remove("content-range");
}

/// About what is sent.
pub fn of_writes() -> Vec<(&'static str, Lie)> {
    vec![
        ("403", Lie::refuse(403, Form::Code("AccessDenied"))),
        ("404", Lie::refuse(404, Form::Code("NoSuchBucket"))),
        ("503", Lie::refuse(503, Form::Code("SlowDown"))),
        ("a foreign 403", Lie::refuse(403, Form::Foreign)),
        ("200 with nothing", Lie::change(untagged)),
        (
            "done and refused",
            Lie::RefuseAfter(403, Form::Code("AccessDenied")),
        ),
        (
            "done and 500",
            Lie::RefuseAfter(500, Form::Code("InternalError")),
        ),
        (
            "done and 412",
            Lie::RefuseAfter(412, Form::Code("PreconditionFailed")),
        ),
        ("a reset", Lie::ResetBefore),
        ("an answer that is lost", Lie::ResetAfter),
        ("no answer", Lie::Hang(TOO_LONG)),
        ("done twice", Lie::LateDuplicate),
        ("done late", Lie::Overtaken),
    ]
}

/// A success that says nothing.
fn untagged(answer: &mut Answer) {
    answer.headers.clear();
    answer.body.clear();
}
