//! A hint for people who choose a passphrase that can be guessed.
//!
//! Everybody who can read the bucket can guess at leisure, so the hint is about guesses that no
//! server slows down. The estimate knows no dictionary: zxcvbn would, and its lists alone are
//! larger than what the program may still grow by. Instead, letters that can be spoken count as
//! words of a list of 7,776, which is what random words come from and more than most people choose
//! from. So a passphrase of which it says nothing may still be a famous sentence.
//!
//! Promises: the line has nothing of the passphrase; nothing is refused; no copy is made.

/// The rest of a longer passphrase is not looked at: a hundred characters are strong, or as weak as
/// what they repeat.
const CHARS_MAX: usize = 100;

/// Guesses that Argon2id as `init` sets it leaves to somebody with many machines.
const GUESSES_A_SECOND: f64 = 1e4;

const YEAR_SECONDS: f64 = 365.25 * 86400.0;

/// A passphrase that holds longer deserves no hint: four random words do, three do not.
const WEAK_SECONDS: f64 = 10.0 * YEAR_SECONDS;

/// Words to choose from, as in the lists for dice.
const WORDS: f64 = 7776.0;
/// Letters of a word, of several that stand together.
const WORD_LETTERS: usize = 6;
/// More consonants than that in a row cannot be spoken.
const CONSONANTS_MAX: usize = 4;

/// Signs beside letters and digits.
const SIGNS: f64 = 33.0;
/// Signs that people put between words.
const JOINTS: &str = " -_.,+";
/// Ways to begin and go on with a sequence such as `abc` or `321`.
const SEQUENCES: f64 = 100.0;
/// Years that people write.
const YEARS: f64 = 150.0;

const ROWS: [&str; 4] = ["qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm"];

/// The weakness that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    Short,
    Words,
    Pattern,
}

/// One line about a passphrase that can be guessed; `None` if it is strong, or no text.
pub fn hint(passphrase: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(passphrase).ok()?;
    let end = text.char_indices().nth(CHARS_MAX).map(|(end, _)| end);
    let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let (unit, times) = repeated(text);
    let (digits, mut weakness) = judge(unit);
    if times > 1 {
        weakness = Weakness::Pattern;
    }
    // On average half of all guesses are enough.
    let seconds = 10f64.powf(digits) * times as f64 / 2.0 / GUESSES_A_SECOND;
    (seconds < WEAK_SECONDS).then(|| {
        let why = match weakness {
            Weakness::Short => "it is short",
            Weakness::Words => "it looks like words or names",
            Weakness::Pattern => "it follows a pattern",
        };
        format!(
            "the new passphrase could be guessed in about {} ({why}): use four or more random words",
            shown(seconds)
        )
    })
}

/// The shortest text that `text` repeats from its beginning to its end, and how often.
fn repeated(text: &str) -> (&str, usize) {
    let cuts = text.char_indices().map(|(cut, _)| cut).skip(1);
    let unit = cuts.filter(|cut| *cut * 2 <= text.len()).find_map(|cut| {
        let unit = text.get(..cut)?;
        let rest = text.get(cut..)?;
        text.starts_with(rest).then_some(unit)
    });
    unit.map_or((text, 1), |unit| (unit, text.len() / unit.len()))
}

/// How many guesses a text takes, as a power of ten, and its weakness if it has one.
fn judge(text: &str) -> (f64, Weakness) {
    let (mut digits, mut weakness) = (0.0, Weakness::Short);
    let mut joint = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = kind_of(first);
        let end = rest.find(|letter| kind_of(letter) != kind);
        let (run, behind) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .unwrap_or((rest, ""));
        rest = behind;
        let (power, found) = match kind {
            Kind::Letters => letters(run),
            Kind::Digits => numbers(run),
            // One that stands between all words is chosen once.
            Kind::Signs if joint == Some(run) => (0.0, None),
            Kind::Signs if run.chars().count() == 1 && JOINTS.contains(run) => {
                joint = Some(run);
                ((JOINTS.len() as f64).log10(), None)
            }
            Kind::Signs => (run.chars().count() as f64 * SIGNS.log10(), None),
        };
        digits += power;
        weakness = found
            .filter(|_| weakness != Weakness::Words)
            .unwrap_or(weakness);
    }
    (digits, weakness)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letters,
    Digits,
    Signs,
}

fn kind_of(letter: char) -> Kind {
    match letter {
        letter if letter.is_alphabetic() => Kind::Letters,
        letter if letter.is_numeric() => Kind::Digits,
        _ => Kind::Signs,
    }
}

fn letters(run: &str) -> (f64, Option<Weakness>) {
    let count = run.chars().count();
    let is_small = |letter: char| !letter.is_uppercase();
    let is_mixed = !run.chars().skip(1).all(is_small) && run.chars().any(is_small);
    let letters: f64 = if is_mixed { 52.0 } else { 26.0 };
    let any = count as f64 * letters.log10();
    if count > 2 && (is_sequence(run) || is_row(run)) {
        return (any.min(SEQUENCES.log10()), Some(Weakness::Pattern));
    }
    let words = (count / WORD_LETTERS).max(1) as f64 * WORDS.log10();
    match !is_mixed && can_be_spoken(run) && words < any {
        true => (words, Some(Weakness::Words)),
        false => (any, None),
    }
}

fn numbers(run: &str) -> (f64, Option<Weakness>) {
    let count = run.chars().count();
    let any = count as f64;
    if count > 2 && is_sequence(run) {
        (any.min(SEQUENCES.log10()), Some(Weakness::Pattern))
    } else if count == 4 && (run.starts_with("19") || run.starts_with("20")) {
        (YEARS.log10(), Some(Weakness::Pattern))
    } else {
        (any, None)
    }
}

/// Whether each letter is one more than the one before it, or one less, or the same.
fn is_sequence(run: &str) -> bool {
    let steps = || {
        let codes = || run.chars().map(|letter| i64::from(u32::from(letter)));
        codes().skip(1).zip(codes()).map(|(next, last)| next - last)
    };
    let first = steps().next().unwrap_or_default();
    first.abs() <= 1 && steps().all(|step| step == first)
}

/// Whether these keys are beside each other.
fn is_row(run: &str) -> bool {
    ROWS.iter().any(|row| {
        let mut starts = row.char_indices().filter_map(|(at, _)| row.get(at..));
        let mut ends = row.char_indices().filter_map(|(at, _)| row.get(..=at));
        let same = |a: char, b: char| a.to_ascii_lowercase() == b;
        let fits = |keys: &mut dyn Iterator<Item = char>| {
            run.chars()
                .all(|letter| keys.next().is_some_and(|key| same(letter, key)))
        };
        starts.any(|keys| fits(&mut keys.chars())) || ends.any(|keys| fits(&mut keys.chars().rev()))
    })
}

/// Whether letters may be a word. Those of other scripts may always.
fn can_be_spoken(run: &str) -> bool {
    let (mut vowels, mut consonants) = (0, 0);
    for letter in run.chars() {
        if letter.is_ascii() && !"aeiouy".contains(letter.to_ascii_lowercase()) {
            consonants += 1;
        } else {
            (vowels, consonants) = (vowels + 1, 0);
        }
        if consonants > CONSONANTS_MAX {
            return false;
        }
    }
    vowels * 8 >= run.chars().count()
}

fn shown(seconds: f64) -> String {
    let units = [
        (60.0, "minute"),
        (3600.0, "hour"),
        (86400.0, "day"),
        (YEAR_SECONDS, "year"),
    ];
    let fits = |(length, _): &(f64, &str)| seconds >= *length;
    match units.into_iter().rev().find(fits) {
        None => "a minute or less".to_owned(),
        Some((length, unit)) => match (seconds / length).round() {
            count if count <= 1.0 => format!("1 {unit}"),
            count => format!("{count} {unit}s"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_choose_first_is_weak() {
        for (weak, why) in [
            ("x", "short"),
            ("xK9#q", "short"),
            ("19700101", "short"),
            ("password", "words or names"),
            ("Michael1984", "words or names"),
            ("sunshine7!", "words or names"),
            ("strongroom", "words or names"),
            ("correct horse", "words or names"),
            ("correct horse battery", "words or names"),
            ("пароль", "words or names"),
            ("qwertyuiop", "pattern"),
            ("lkjhgf", "pattern"),
            ("abcdefghijklmnop", "pattern"),
            ("9876543210", "pattern"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaa", "pattern"),
            ("hunter2hunter2hunter2", "pattern"),
            ("xq7xq7xq7xq7xq7xq7xq7xq7", "pattern"),
        ] {
            let hint = hint(weak.as_bytes()).unwrap_or_else(|| panic!("{weak} is strong"));
            assert!(hint.contains(why), "{weak}: {hint}");
            assert!(weak == "x" || !hint.contains(weak), "{hint}");
            assert!(!hint.contains('\n'), "{hint}");
        }
    }

    #[test]
    fn random_words_and_random_letters_are_strong() {
        for strong in [
            "rename unpaved crouton shakable",
            "correcthorsebatterystaple",
            "f7Kq-2mZx-9pLw-4tRb",
            "xkqjvbmwpztl",
            "Tr0ub4dor&3xQ!",
            "canary-passphrase-correct-horse",
            "четыре случайных русских слова",
        ] {
            assert_eq!(hint(strong.as_bytes()), None, "{strong}");
        }
        assert_eq!(hint(b"\xff\xfe"), None, "no text");
        // Of a long one the beginning says enough.
        let long = "rename unpaved crouton shakable ".repeat(100) + "x";
        assert_eq!(hint(long.as_bytes()), None);
        assert!(hint("f7Kq-2mZ".repeat(500).as_bytes()).is_some());
    }

    #[test]
    fn times_read_well() {
        for (seconds, expected) in [
            (0.001, "a minute or less"),
            (61.0, "1 minute"),
            (5400.0, "2 hours"),
            (86400.0 * 40.0, "40 days"),
            (YEAR_SECONDS * 3.2, "3 years"),
        ] {
            assert_eq!(shown(seconds), expected);
        }
    }
}
