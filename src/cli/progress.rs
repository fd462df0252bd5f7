//! Progress bars, on a terminal only.

use std::sync::Arc;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` units, drawn on standard error if that is a terminal. `template` is indicatif's.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are literals");
    ProgressBar::new(length).with_style(style.progress_chars("━╸─"))
}

/// Draws the downloads of a model.
pub fn download() -> Arc<dyn ProgressHandler> {
    let bar = bar(
        0,
        "downloading {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    Arc::new(Download { bar })
}

struct Download {
    bar: ProgressBar,
}

impl ProgressHandler for Download {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                self.bar.set_length(*total_bytes);
                self.bar.set_position(0);
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                for file in files {
                    self.bar.set_message(file.filename.clone());
                    self.bar.set_position(file.bytes_completed);
                }
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => self.bar.set_position(*bytes_completed),
            ProgressEvent::Download(DownloadEvent::Complete) => self.bar.finish_and_clear(),
            ProgressEvent::Upload(_) => {}
        }
    }
}
