//! No two promotions begin timelines of one number: members could not tell them apart by it, and pg_rewind does nothing then.

use bellwether_types::TimelineId;

use crate::{event::HostId, names::letter, wal::Pos, world::World};

impl World {
    pub(crate) fn check_number(&mut self, host: HostId, start: Pos) {
        let timeline: TimelineId = self.wal.timeline(start);
        if let Some(before) = self.checks.numbers.insert(timeline, host)
            && !self.is_patroni(before)
            && !self.is_patroni(host)
        {
            let text = format!("{} began a timeline {timeline} after {} had", letter(host), letter(before));
            self.violated("one_number", text);
        }
    }
}
