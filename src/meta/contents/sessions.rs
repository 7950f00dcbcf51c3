//! Sessions and the objects that they wrote.

use super::reclaim::DeadSession;
use crate::meta::{
    Meta, MetaError, ObjectId, SessionId,
    schema::ObjectKey,
    state::{change::Change, locks::Held},
};

impl Meta {
    /// The key of an object, if its session is known (if not, nothing in the database names it).
    pub(in crate::meta) async fn object_key(
        &self,
        object: ObjectId,
    ) -> Result<Option<ObjectKey>, MetaError> {
        let mut session = self.inner.sessions.number(object.session);
        if session.is_none() && self.is_follower() {
            self.inner.sessions.refresh(&self.inner.backing).await?;
            session = self.inner.sessions.number(object.session);
        }
        Ok(session.map(|session| ObjectKey {
            session,
            number: object.number,
        }))
    }

    /// The object of a key.
    pub(in crate::meta) async fn object_id(&self, key: ObjectKey) -> Result<ObjectId, MetaError> {
        let mut session = self.inner.sessions.session(key.session);
        if session.is_none() && self.is_follower() {
            self.inner.sessions.refresh(&self.inner.backing).await?;
            session = self.inner.sessions.session(key.session);
        }
        let session = session.ok_or_else(|| {
            MetaError::Store(format!("session {} is named but not recorded", key.session))
        })?;
        Ok(ObjectId {
            session,
            number: key.number,
        })
    }

    /// Sessions that ended without [`Meta::end_session`] and whose objects have not been checked
    /// since; never this one.
    pub async fn dead_sessions(&self) -> Result<Vec<DeadSession>, MetaError> {
        self.inner.check()?;
        let dead = self.inner.sessions.unended_but(self.inner.session_number);
        let dead = dead.into_iter().map(|session| DeadSession { session });
        Ok(dead.collect())
    }

    /// Forgets a session whose leftovers are gone (or this one, at a clean unmount).
    pub async fn end_session(&self, session: SessionId) -> Result<(), MetaError> {
        self.inner.check()?;
        let held = self.inner.locks.reclaim().await;
        let Some(number) = self.inner.sessions.number(session) else {
            return Ok(());
        };
        let mut change = Change::default();
        self.inner.sessions.end(number, &mut change);
        self.commit(change, Held::default().and(held)).await
    }
}
