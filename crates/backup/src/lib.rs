//! Copies of an installation: backup, restore, and the move to other stores.
