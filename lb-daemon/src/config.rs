//! Text to [`crate::model::Config`].
