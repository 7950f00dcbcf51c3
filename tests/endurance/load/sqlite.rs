//! SQLite as it keeps each commit (docs/semantics.md): with a log ahead and FULL, and with a
//! rollback journal and EXTRA. What the database holds follows from the number of its last
//! transaction, so a whole database can be compared.

use std::{fs, path::PathBuf, time::Duration};

use super::{Programs, Worker};
use crate::stage::{Place, Stopped};

/// `content(n)` and `state(last)`: what each row holds after transaction `last`.
const MODEL: &str = r#"
import hashlib, sqlite3, sys, time
KEPT = 400
def content(n):
    return hashlib.sha256(str(n).encode()).hexdigest() * (1 + n * 37 % 60)
def state(last):
    return [(n, content(n), n + 7 if n + 7 <= last else 0) for n in range(max(1, last - KEPT + 1), last + 1)]
"#;

/// Arguments: path, journal mode, synchronous, number of the first transaction, how many, and the
/// file that each is noted in once its commit has returned.
///
/// SQLite syncs the directory after it has removed a journal, but takes a directory that it cannot
/// open for synced, and reports the commit. So a commit counts only if the mount was not dead yet.
const COMMIT: &str = r#"
import os
directory = os.getcwd()
path, journal, synchronous, first, count, noted = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None, timeout=60)
db.execute(f'PRAGMA journal_mode={journal}'); db.execute(f'PRAGMA synchronous={synchronous}')
db.execute('PRAGMA wal_autocheckpoint=60')
db.execute('CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, content TEXT, touched INTEGER)')
with open(noted, 'w') as out:
    for n in range(int(first), int(first) + int(count)):
        db.execute('BEGIN IMMEDIATE')
        db.execute('INSERT INTO t VALUES(?, ?, 0)', (n, content(n)))
        db.execute('UPDATE t SET touched=? WHERE n=?', (n, n - 7))
        db.execute('DELETE FROM t WHERE n<=?', (n - KEPT,))
        db.execute('COMMIT')
        os.close(os.open(directory, os.O_RDONLY))
        print(n, file=out, flush=True)
        time.sleep(0.01)
"#;

/// Arguments: path, and the last transaction that was noted; prints the last that is there.
const COMPARE: &str = r#"
path, noted = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, timeout=60)
check = db.execute('PRAGMA integrity_check').fetchall()
assert check == [('ok',)], check
table = db.execute("SELECT count(*) FROM sqlite_master WHERE name='t'").fetchone()[0]
rows = db.execute('SELECT n, content, touched FROM t ORDER BY n').fetchall() if table else []
last = rows[-1][0] if rows else 0
assert noted <= last <= noted + 1, f'the last transaction that is there is {last}, promised was {noted}'
assert rows == state(last), f'the rows are not those after transaction {last}'
print(last)
"#;

struct Database {
    name: &'static str,
    modes: &'static str,
    /// The last transaction that is known to be there.
    last: u64,
}

pub struct Sqlite {
    programs: Programs,
    transactions: u64,
    databases: [Database; 2],
    turn: usize,
}

impl Sqlite {
    pub fn new(programs: Programs, transactions: u64) -> Sqlite {
        let database = |name, modes| Database {
            name,
            modes,
            last: 0,
        };
        let dir = programs.scratch("sqlite");
        fs::write(dir.join("commit.py"), [MODEL, COMMIT].concat()).expect("script");
        fs::write(dir.join("compare.py"), [MODEL, COMPARE].concat()).expect("script");
        Sqlite {
            programs,
            transactions,
            databases: [
                database("ahead.db", "WAL FULL"),
                database("back.db", "DELETE EXTRA"),
            ],
            turn: 0,
        }
    }

    fn noted(&self, database: &Database) -> PathBuf {
        let dir = self.programs.scratch("sqlite");
        dir.join(format!("{}.noted", database.name))
    }
}

impl Worker for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = at.life.dir.join("sqlite");
        at.io("mkdir", fs::create_dir_all(&dir))?;
        for index in 0..self.databases.len() {
            let database = &self.databases[index];
            if database.last == 0 && !dir.join(database.name).exists() {
                continue;
            }
            let script = self.programs.scratch("sqlite").join("compare.py");
            let line = format!(
                "python3 {} {} {}",
                script.display(),
                database.name,
                database.last
            );
            let last = self.programs.run(at, "sqlite", &dir, &line)?;
            let last = last.trim().parse();
            self.databases[index].last = last.map_err(|error| at.judge(&line, &error))?;
        }
        Ok(())
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = at.life.dir.join("sqlite");
        self.turn = (self.turn + 1) % self.databases.len();
        let database = &self.databases[self.turn];
        let noted = self.noted(database);
        let _ = fs::remove_file(&noted);
        let line = format!(
            "python3 {} {} {} {} {} {}",
            self.programs.scratch("sqlite").join("commit.py").display(),
            database.name,
            database.modes,
            database.last + 1,
            self.transactions,
            noted.display()
        );
        let result = self.programs.run(at, "sqlite", &dir, &line);
        let noted = fs::read_to_string(&noted).unwrap_or_default();
        let last = noted
            .rsplit_terminator('\n')
            .next()
            .and_then(|last| last.parse().ok());
        if let Some(last) = last {
            self.databases[self.turn].last = last;
        }
        result.map(|_| ())
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(1500)
    }
}
