//! Giving out inode numbers and cookies, and reserving more of them.

use super::{
    Ino, MetaError,
    schema::{self, Table},
    state::ids,
    volume::Inner,
};

impl Inner {
    async fn reserve_ids(&self, even_if_some_are_left: bool) -> Result<(), MetaError> {
        let _reserving = self.ids.reservation_lock().await;
        let (end, some_are_left) = self.ids.reserved();
        if some_are_left && !even_if_some_are_left {
            return Ok(());
        }
        let counters = ids::reserve(end, self.ids.next_session());
        let mut batch = slatedb::WriteBatch::new();
        batch.put(Table::Counters.single(), schema::encode_counters(&counters));
        let sequence = self
            .backing
            .write(batch)
            .await
            .map_err(|error| self.record_fencing(error))?;
        self.durability.changed(sequence);
        self.flush().await?;
        self.ids.extend_to(counters.ids_end);
        Ok(())
    }
}

impl super::Meta {
    /// A number that was never given out before.
    pub(in crate::meta) async fn new_id(&self) -> Result<Ino, MetaError> {
        loop {
            let (id, low) = self.inner.ids.take();
            if low {
                let inner = self.inner.clone();
                tokio::spawn(async move {
                    // If it fails, the volume is closed or fenced, and the next operation that
                    // needs a number reports that.
                    if inner.reserve_ids(true).await.is_err() {
                        inner.ids.reservation_failed();
                    }
                });
            }
            match id {
                Some(id) => return Ok(Ino(id)),
                None => self.inner.reserve_ids(false).await?,
            }
        }
    }
}
