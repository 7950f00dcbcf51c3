//! Damaged objects: which files they hurt, and in a repair, setting those files aside.

use super::{Check, CheckError, Finding, Report, plan::FAULTS_AT_ONCE};
use crate::meta::{Damaged, Hurt, Ino, Located, Mended, MetaError};

impl Check {
    /// Reports the files that damaged objects hurt. In a repair it sets these files aside, and
    /// writes the readable rest of the objects anew.
    pub(super) async fn deal_with(
        &mut self,
        damaged: Vec<Damaged>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let damaged = self.still_needed(damaged).await?;
        if damaged.is_empty() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let hurt = self.meta.hurt_by(&damaged, after, FAULTS_AT_ONCE).await?;
            let Some(last) = hurt.last() else { break };
            after = Some(last.ino);
            let inos = hurt.iter().map(|hurt| hurt.ino).collect();
            let mut located = self.meta.locate(&inos).await?;
            for hurt in hurt {
                let located = located.remove(&hurt.ino).unwrap_or_default();
                self.deal_with_file(&damaged, hurt, &located, report)
                    .await?;
            }
        }
        if self.plan.repair {
            self.salvage(&damaged).await?;
        }
        Ok(())
    }

    async fn deal_with_file(
        &mut self,
        damaged: &[Damaged],
        mut hurt: Hurt,
        located: &Located,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let why = damaged.iter().find(|one| one.object == hurt.object);
        let why = why.map(|one| one.why.clone()).unwrap_or_default();
        let mut what = match hurt.ranges.is_empty() {
            true => format!("{why}; the file can be read all the same"),
            false => why.clone(),
        };
        if located.paths.is_empty() {
            what = format!("inode {}, which has no name: {what}", hurt.ino.0);
        }
        let mut finding = Finding {
            code: "damaged-object",
            what,
            object: Some(crate::data::object_key(hurt.object)),
            paths: located.paths.clone(),
            ranges: hurt.ranges.clone(),
            has_more_ranges: hurt.has_more,
            mended: None,
        };
        if !self.plan.repair {
            self.outcome.left += 1;
            report(&finding);
            return Ok(());
        }
        let mut mended = Mended::Done("what can be read is written to a new object".to_owned());
        while !hurt.ranges.is_empty() {
            let aside = self
                .meta
                .set_aside(hurt.ino, &hurt.ranges, located, &why)
                .await;
            mended = match aside {
                Ok(mended) => mended,
                Err(error @ MetaError::Fenced) => return Err(error.into()),
                Err(error) => Mended::Left(error.to_string()),
            };
            if !hurt.has_more || matches!(mended, Mended::Left(_)) {
                break;
            }
            // The rest of its ranges, now that the first are cut out.
            let after = Some(Ino(hurt.ino.0 - 1));
            let mut rest = self.meta.hurt_by(damaged, after, 1).await?;
            match rest.pop().filter(|rest| rest.ino == hurt.ino) {
                Some(rest) => hurt = rest,
                None => break,
            }
        }
        match &mended {
            Mended::Done(_) => self.outcome.mended += 1,
            Mended::Left(_) => self.outcome.left += 1,
        }
        finding.mended = Some(mended);
        report(&finding);
        Ok(())
    }

    /// The objects whose records a newer state of the metadata still has. Beside a living writer an
    /// object may have been deleted since, and rightly.
    async fn still_needed(&self, damaged: Vec<Damaged>) -> Result<Vec<Damaged>, CheckError> {
        let Some(newer) = self.meta.look_again().await? else {
            return Ok(damaged);
        };
        let mut needed = Vec::new();
        for one in damaged {
            let record = newer.object(one.object).await?;
            if record.is_some_and(|record| record.live_bytes > 0) {
                needed.push(one);
            }
        }
        let _ = newer.close().await;
        Ok(needed)
    }
}
