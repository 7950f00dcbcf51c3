//! Outcomes of objects with bytes of a file: stored, refused or lost.

use super::{
    content::Content,
    in_flight::{InFlight, Place},
};
use crate::{
    meta::{NewObject, ObjectId},
    store::StoreError,
};

impl Content {
    /// An object is in the store, whole. False if nothing of this file is to be committed of it.
    pub(crate) fn object_stored(&mut self, new: &NewObject) -> bool {
        self.settle_object(new.object, &Place::Stored(new.clone()))
    }

    /// An object can never be stored.
    pub(crate) fn object_lost(&mut self, object: ObjectId, error: &StoreError) {
        if self.settle_object(object, &Place::Lost(object)) {
            self.refused(error);
        }
    }

    fn settle_object(&mut self, object: ObjectId, place: &Place) -> bool {
        let mut found = false;
        for entry in &mut self.in_flight {
            if entry.place.object() == Some(object) {
                entry.place = place.clone();
                found = true;
            }
        }
        found
    }

    /// An object was refused. Heard of only if it has bytes of this file.
    pub(crate) fn object_refused(&mut self, object: ObjectId, error: &StoreError) {
        let is_ours = |entry: &InFlight| entry.place.object() == Some(object);
        if self.in_flight.iter().any(is_ours) {
            self.refused(error);
        }
    }

    /// A commit of this file was refused.
    pub(crate) fn refused(&mut self, error: &StoreError) {
        self.errors.count += 1;
        self.errors.standing = Some(error.clone());
    }

    /// Are bytes of this file lost, that nothing has replaced since?
    pub(crate) fn has_lost(&self) -> bool {
        let is_lost = |entry: &InFlight| match entry.place {
            Place::Lost(object) => self.overlay.has_object(object),
            _ => false,
        };
        self.in_flight.iter().any(is_lost)
    }

    /// The error that a caller which has heard of `seen` errors must hear now: a new one, and
    /// always that bytes are lost.
    pub(crate) fn trouble(&self, seen: &mut u64) -> Option<StoreError> {
        let standing = self.errors.standing()?;
        let news = self.errors.report(seen);
        news.or_else(|| self.has_lost().then(|| standing.clone()))
    }
}
