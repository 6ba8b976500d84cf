//! From observed and wanted state to ordered ops.
