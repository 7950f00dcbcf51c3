//! The lying store itself: honest until told, and exactly as false as told.
