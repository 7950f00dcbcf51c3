//! Checking the metadata, and mending it in rounds.

use std::collections::{BTreeSet, HashSet};

use super::{Check, CheckError, Finding, Report};
use crate::meta::{Counted, Fault, Ino, Located, Mended, MetaError, Pass};

/// Faults of the metadata that cannot be mended and that a repair remembers, at most.
const LEFT_MAX: usize = 50_000;

/// Rounds of checking and mending the metadata. Faults that one mending leaves for another are done
/// in the second round. A volume that needs more rounds than this has faults that this program does
/// not understand.
const ROUNDS_MAX: usize = 8;

impl Check {
    pub(super) async fn look(&mut self, report: &mut Report<'_>) -> Result<(), CheckError> {
        let nothing_known = HashSet::new();
        for pass in Pass::ALL {
            self.progress.begin(step_of(pass), 0);
            let mut skip = 0;
            loop {
                let memory = self.plan.memory();
                let found = self.meta.check(pass, memory, skip, &nothing_known).await?;
                skip += found.faults.len();
                for (fault, located) in self.located(found.faults).await? {
                    self.outcome.left += 1;
                    report(&self.finding(&fault, &located).await?);
                }
                if let Some(counted) = found.counted {
                    self.count(counted);
                    break;
                }
            }
        }
        self.check_objects(report).await
    }

    pub(super) async fn repair(&mut self, report: &mut Report<'_>) -> Result<(), CheckError> {
        let mut left = HashSet::new();
        self.mend_metadata(&mut left, report).await?;
        let before = self.outcome.mended;
        self.check_objects(report).await?;
        if self.outcome.mended > before {
            self.mend_metadata(&mut left, report).await?;
        }
        Ok(())
    }

    /// Checks and mends until nothing new is found. Faults in `left` are not reported again.
    async fn mend_metadata(
        &mut self,
        left: &mut HashSet<Fault>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        for round in 0.. {
            let (mut is_whole, may_mend) = (true, round < ROUNDS_MAX);
            for pass in Pass::ALL {
                self.progress.begin(step_of(pass), 0);
                loop {
                    let memory = self.plan.memory();
                    let found = self.meta.check(pass, memory, 0, left).await?;
                    is_whole &= found.faults.is_empty();
                    let mut faults = found.faults;
                    // Counters are mended first: a new inode must not get a number before it is
                    // known which are free.
                    faults.sort_by_key(|fault| !matches!(fault, Fault::Counters { .. }));
                    for (fault, located) in self.located(faults).await? {
                        self.mend_fault(fault, &located, may_mend, left, report)
                            .await?;
                    }
                    self.meta.flush().await?;
                    if let Some(counted) = found.counted {
                        self.count(counted);
                        break;
                    }
                    if left.len() >= LEFT_MAX {
                        let why = "there are more faults that cannot be mended than this program remembers";
                        return Err(CheckError::Internal(why.to_owned()));
                    }
                }
            }
            if is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn mend_fault(
        &mut self,
        fault: Fault,
        located: &Located,
        may_mend: bool,
        left: &mut HashSet<Fault>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let finding = self.finding(&fault, located).await?;
        let mended = match may_mend {
            false => Mended::Left("it comes back whenever it is mended".to_owned()),
            true if self.restore_record(&fault).await? => {
                Mended::Done("the object's own header says what its record said".to_owned())
            }
            true => match self.meta.mend(&fault, located).await {
                Ok(mended) => mended,
                Err(error @ MetaError::Fenced) => return Err(error.into()),
                Err(error) => Mended::Left(error.to_string()),
            },
        };
        match &mended {
            Mended::Done(_) => self.outcome.mended += 1,
            Mended::Left(_) => {
                self.outcome.left += 1;
                left.insert(fault);
            }
        }
        report(&Finding {
            mended: Some(mended),
            ..finding
        });
        Ok(())
    }

    fn count(&mut self, counted: Counted) {
        let all = &mut self.outcome.counted;
        all.inodes = all.inodes.max(counted.inodes);
        all.extents = all.extents.max(counted.extents);
        all.objects = all.objects.max(counted.objects);
        all.stored_bytes = all.stored_bytes.max(counted.stored_bytes);
    }

    /// The faults, each with the paths of the file that it hurts.
    async fn located(&self, faults: Vec<Fault>) -> Result<Vec<(Fault, Located)>, MetaError> {
        let inos: BTreeSet<Ino> = faults.iter().filter_map(Fault::ino).collect();
        let located = self.meta.locate(&inos).await?;
        let mut found = Vec::with_capacity(faults.len());
        for fault in faults {
            let mut own = fault
                .ino()
                .and_then(|ino| located.get(&ino).cloned())
                .unwrap_or_default();
            if let Some((dir, name)) = fault.entry() {
                own.paths.push(self.meta.path_of_entry(dir, name).await?);
            }
            found.push((fault, own));
        }
        Ok(found)
    }

    async fn finding(&self, fault: &Fault, located: &Located) -> Result<Finding, MetaError> {
        let object = self.meta.object_of_fault(fault).await;
        Ok(Finding {
            code: fault.code(),
            what: fault.to_string(),
            object: object.map(crate::data::object_key),
            paths: located.paths.clone(),
            ranges: fault.range().into_iter().collect(),
            has_more_ranges: false,
            mended: None,
        })
    }
}

fn step_of(pass: Pass) -> &'static str {
    match pass {
        Pass::Tables => "reading the metadata",
        Pass::Inodes => "checking inodes, directories and extents",
        Pass::Names => "checking names and links",
        Pass::Objects => "checking live bytes of objects",
    }
}
