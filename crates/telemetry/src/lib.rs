//! What a process tells of itself: logs, traces, profiles, debug archives.
