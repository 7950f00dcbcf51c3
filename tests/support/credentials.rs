//! The key pair of every server that tests start, and the environment of their clients.

use std::sync::Once;

pub const ACCESS_KEY: &str = "test-access-key";
pub const SECRET_KEY: &str = "test-secret-key";

/// Gives this process its credentials, and keeps the machine's own settings out.
pub fn set_environment() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        let names = names.iter().filter_map(|name| name.to_str());
        for name in names.filter(|name| name.starts_with("AWS_")) {
            // SAFETY: each test calls this before any other thread reads the environment.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ] {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    });
}
