//! `strongroom.json`: the volume header with its key slots; and unlocking it.
