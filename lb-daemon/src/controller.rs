//! The one owner of configuration, health, plan and dataplane.
