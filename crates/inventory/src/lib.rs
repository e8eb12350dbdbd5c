//! What is known of every endpoint: vitals, users, software, policies, and labels by rule.
