//! Tests with real emerge, real images, real attach.
