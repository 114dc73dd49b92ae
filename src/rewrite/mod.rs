//! Rewriting: whatever is installed is made to stay inside the prefix.
