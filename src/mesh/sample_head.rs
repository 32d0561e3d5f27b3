//! sample_head
