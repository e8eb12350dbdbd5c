//! Log destinations: rows and events to the systems people already watch.
