//! Tests of the binary against small worlds.
