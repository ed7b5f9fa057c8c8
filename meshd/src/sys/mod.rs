//! Every `unsafe` line of the project.
#![allow(unsafe_code)]
