//! Poll analytics: HTTP in, a troupe that translates, one named actor per question, a cast that retires idle ones.
