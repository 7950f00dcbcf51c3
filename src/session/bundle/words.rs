//! The words of a text, and those among them that are names by their shape.

use std::net::Ipv4Addr;

/// Paths that every Linux has.
const PATHS_OF_ALL: [&str; 4] = ["/dev/fuse", "/etc/fuse.conf", "/proc/", "/sys/module/fuse"];

/// The beginnings of the ids of AWS's access keys, roles and users.
const ACCESS_KEYS: [&str; 5] = ["AKIA", "ASIA", "AROA", "AIDA", "ANPA"];
const ACCESS_KEY_LEN_MIN: usize = 16;

/// A word of that many letters, large and small ones and digits among each other, may be a secret.
const TOKEN_LEN_MIN: usize = 32;

/// The judgement of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It may stay.
    Plain,
    /// It is to be replaced by this.
    Named(&'static str),
}

/// The words of a text and the separators between them, which together are the text.
pub(super) struct Words<'a> {
    rest: &'a str,
    /// The last three words: a host is known by those before it.
    last: [&'a str; 3],
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Words<'a> {
        Words {
            rest: text,
            last: [""; 3],
        }
    }

    /// Judges a word by itself and by the words before it.
    fn judge(&mut self, word: &'a str) -> Shape {
        let [process, number, on] = self.last;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty();
        self.last = [number, on, word];
        // Leases are told of so: `process 17 on HOST`.
        match process == "process" && is_number && on == "on" {
            true => Shape::Named("<host>"),
            false => shape(word),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (&'a str, Shape);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.rest.chars().next()?;
        let end = match separates(first) {
            true => first.len_utf8(),
            false => self.rest.find(separates).unwrap_or(self.rest.len()),
        };
        let (word, rest) = self.rest.split_at_checked(end)?;
        if separates(first) {
            self.rest = rest;
            return Some((word, Shape::Plain));
        }
        // A stop at the end belongs to the sentence.
        let bare = word.trim_end_matches(['.', ':', '!', '?']);
        let (word, rest) = match bare.is_empty() {
            true => (word, rest),
            false => self.rest.split_at_checked(bare.len())?,
        };
        self.rest = rest;
        let shape = self.judge(word);
        Some((word, shape))
    }
}

fn separates(letter: char) -> bool {
    letter.is_whitespace() || "\"'`()[]{}<>,;=|\\".contains(letter)
}

fn shape(word: &str) -> Shape {
    let is_of_all = || PATHS_OF_ALL.iter().any(|path| word.starts_with(path));
    let is_path = || {
        ["/", "~/", "./", "../"]
            .iter()
            .any(|start| word.len() > start.len() && word.starts_with(start))
    };
    if word.contains("://") || word.contains(":/") {
        match word.ends_with("://") {
            // The name behind it has been replaced.
            true => Shape::Plain,
            false => Shape::Named("<url>"),
        }
    } else if word.starts_with("arn:") {
        Shape::Named("<arn>")
    } else if is_path() && !is_of_all() {
        Shape::Named("<path>")
    } else if is_address(word) {
        Shape::Named("<address>")
    } else if is_access_key(word) {
        Shape::Named("<access key>")
    } else if is_token(word) {
        Shape::Named("<token>")
    } else {
        Shape::Plain
    }
}

/// An IP address, with or without a port, or `user@host`.
fn is_address(word: &str) -> bool {
    let host = word.split_once(':').map_or(word, |(host, _)| host);
    let is_v6 = |word: &str| {
        let letters = |letter: char| letter.is_ascii_hexdigit() || letter == ':' || letter == '.';
        let colons = word.matches(':').count();
        word.chars().all(letters) && (word.contains("::") || colons >= 4)
    };
    host.parse::<Ipv4Addr>().is_ok() || is_v6(word) || word.trim_matches('@').contains('@')
}

fn is_access_key(word: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    word.len() >= ACCESS_KEY_LEN_MIN
        && ACCESS_KEYS.iter().any(|start| word.starts_with(start))
        && word.bytes().all(is_letter)
}

/// Base64 and the like. Ids in hexadecimal have small letters only.
fn is_token(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    word.len() >= TOKEN_LEN_MIN
        && word.bytes().all(is_letter)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let words = Words::of(text).map(|(word, shape)| match shape {
            Shape::Plain => word,
            Shape::Named(mask) => mask,
        });
        words.collect()
    }

    #[test]
    fn names_are_known_by_their_shapes() {
        for (text, expected) in [
            (
                "cannot write /home/ann/x: no room",
                "cannot write <path>: no room",
            ),
            ("\"~/vault\" and ../x.", "\"<path>\" and <path>."),
            (
                "see https://nas.example/b?x=1, or not",
                "see <url>=1, or not",
            ),
            ("unix:/run/m.sock", "<url>"),
            (
                "User: arn:aws:iam::123:user/bob is not",
                "User: <arn> is not",
            ),
            (
                "to 10.1.2.3:9000 or [fe80::1]:443",
                "to <address> or [<address>]:443",
            ),
            ("ann@host: hello", "<address>: hello"),
            ("id AKIAIOSFODNN7EXAMPLE.", "id <access key>."),
            (
                "key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "key=<token>",
            ),
            (
                "held by process 17 on nas-7: wait",
                "held by process 17 on <host>: wait",
            ),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn other_words_stay() {
        for text in [
            "2026-11-29T14:40:21.123456Z  INFO strongroom::data: 5 MiB/s, ino:17",
            "GetObject data/0123456789abcdef0123456789abcdef: SlowDown: 503 / try again",
            "/dev/fuse opens; /etc/fuse.conf lacks user_allow_other",
            "--memory 512MiB (1.5 GiB) 12:30:01 v1.2.3 s3://",
            "",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}
