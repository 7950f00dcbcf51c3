//! Small requests are answered at once.

use std::time::Instant;

use strongroom::server::SyncPolicy;

use crate::fixture::start_with;

/// A delayed acknowledgement of TCP takes 40 ms.
#[tokio::test(flavor = "multi_thread")]
async fn small_requests_take_no_delayed_acknowledgement() {
    for sync in [SyncPolicy::Always, SyncPolicy::Never] {
        let fixture = start_with(|config| config.sync = sync).await;
        fixture.put("key", vec![7; 4096]).await;
        const COUNT: u32 = 200;
        let begin = Instant::now();
        for _ in 0..COUNT {
            fixture.get("key").await;
        }
        let get = begin.elapsed() / COUNT;
        assert!(get.as_millis() < 30, "{get:?}");
    }
}
