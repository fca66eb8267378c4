//! The run itself: everything in its time.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::inject::{self, Active};
use super::stage::Stage;
use super::{Options, RunError, Told, attempts, exchange, judge, not_started};
use crate::report::{Check, Fault, Line, Record, Sample, Stream};
use crate::scenario::programs::Exit;
use crate::scenario::{self, Injection};

/// How often output is read and links are sampled.
const TICK: Duration = Duration::from_millis(50);
/// Something that is to be done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Do {
    End(usize),
    Begin(usize),
    Start(usize),
    Client(usize),
    Check(usize),
}

/// A run, and what is kept of it.
pub(super) struct Play<'p, 'a> {
    pub(super) stage: &'p Stage<'a>,
    pub(super) schedule: &'p [Injection],
    pub(super) begun: Instant,
    pub(super) record: &'p mut Record,
    pub(super) options: &'p Options<'p>,
    pub(super) tell: &'p mut dyn FnMut(&Told<'_>),
}

/// What was decided by a check; nothing if all was over before, or it was a client that has ended.
pub(super) type Decided = Option<Check>;

impl<'p, 'a: 'p> Play<'p, 'a> {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    /// Does everything in time. Whether it was interrupted.
    pub(super) fn finish<'scope>(
        &mut self,
        scope: &'scope thread::Scope<'scope, 'p>,
        decided: &SyncSender<Decided>,
        decisions: &Receiver<Decided>,
    ) -> Result<bool, RunError> {
        let scenario = self.stage.scenario;
        let mut plan = self.plan();
        plan.reverse();
        let mut active: Vec<Option<(Active, usize)>> = self.schedule.iter().map(|_| None).collect();
        let mut open = 0_usize;
        let mut sampled = Duration::ZERO;
        loop {
            if self.stopped() {
                break;
            }
            let due = plan.last().map(|(at, _)| *at);
            if let Some((_, what)) = plan.pop_if(|(at, _)| *at <= self.begun.elapsed()) {
                match what {
                    Do::Begin(number) => active[number] = Some(self.begin(number)?),
                    Do::End(number) => self.end(active[number].take(), number),
                    Do::Start(number) => {
                        let slot = &self.stage.slots[number];
                        let started = self.stage.start(slot);
                        started.map_err(|why| not_started(&slot.spec.name, &slot.spec.on, why))?;
                    }
                    Do::Check(number) => {
                        open += 1;
                        let (stage, begun, decided) = (self.stage, self.begun, decided.clone());
                        let check = &scenario.checks[number];
                        scope.spawn(move || {
                            let outcome = attempts::decide(stage, check, begun);
                            // Nobody hears it only when all is over.
                            let _ = decided.send(outcome);
                        });
                    }
                    Do::Client(number) => open += self.client(scope, number, decided)?,
                }
                continue;
            }
            let rest = scenario.lasts.is_some_and(|lasts| self.now() < lasts);
            if plan.is_empty() && open == 0 && !rest {
                break;
            }
            if self.now() >= sampled {
                self.look();
                sampled = self.now() + TICK;
            }
            let wait = due.unwrap_or(Duration::MAX).min(sampled).saturating_sub(self.now());
            match decisions.recv_timeout(wait) {
                Ok(outcome) => {
                    open -= 1;
                    if let Some(check) = outcome {
                        (self.tell)(&Told::Check(&check));
                        self.record.checks.push(check);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let interrupted = self.stopped();
        self.stage.over.store(true, Ordering::Relaxed);
        if !interrupted {
            self.judge_ends();
            self.judge_clients();
        }
        // Nothing has to be started again now, but networks are whole in the end.
        drop(active);
        self.look();
        let at = self.now();
        for slot in &self.stage.slots {
            slot.last_lines(at).into_iter().for_each(|line| self.record.log.push(line));
        }
        Ok(interrupted)
    }

    fn plan(&self) -> Vec<(Duration, Do)> {
        let faults = self.schedule.iter().enumerate().flat_map(|(number, injection)| {
            let end = injection.lasts.map(|lasts| (injection.at + lasts, Do::End(number)));
            [(injection.at, Do::Begin(number))].into_iter().chain(end)
        });
        let scenario = self.stage.scenario;
        let starts = scenario.programs.iter().enumerate();
        let starts = starts.filter_map(|(number, program)| Some((program.at?, Do::Start(number))));
        let checks = scenario.checks.iter().enumerate().map(|(number, check)| (check.at, Do::Check(number)));
        let clients = scenario.clients.iter().enumerate().map(|(number, client)| (client.at, Do::Client(number)));
        let mut plan: Vec<(Duration, Do)> = faults.chain(starts).chain(clients).chain(checks).collect();
        plan.sort_unstable();
        plan
    }

    /// Starts the workers of a client: so many. Each tells when it has ended.
    fn client<'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, 'p>,
        number: usize,
        decided: &SyncSender<Decided>,
    ) -> Result<usize, RunError> {
        let stage = self.stage;
        let spec = &stage.scenario.clients[number];
        let failed = |why: String| not_started(&spec.name, &spec.on, why);
        let to = stage.fill(&spec.to).and_then(|to| stage.socket_address(&spec.on, &to)).map_err(failed)?;
        let host = stage.host(&spec.on).map_err(failed)?;
        let workers = spec.at_once as usize;
        for worker in 0..workers {
            let decided = decided.clone();
            scope.spawn(move || {
                // One that cannot enter its host's network sends nothing, which is judged.
                let _ = host.run(|| exchange::work(spec, [number, worker], to, &stage.journal, &stage.over));
                let _ = decided.send(None);
            });
        }
        Ok(workers)
    }

    /// Judges what clients and receivers wrote down.
    fn judge_clients(&mut self) {
        let clients = &self.stage.scenario.clients;
        for check in judge::judge(clients, &self.stage.journal, &self.record.faults, self.now()) {
            (self.tell)(&Told::Check(&check));
            self.record.checks.push(check);
        }
    }

    fn begin(&mut self, number: usize) -> Result<(Active, usize), RunError> {
        let injection = &self.schedule[number];
        let (at, on) = (self.now(), injection.fault.on());
        (self.tell)(&Told::Fault { at, kind: injection.fault.kind(), on: &on, begins: true });
        let mut notes = Vec::new();
        let active = inject::begin(self.stage, injection, self.options.stop, &mut notes)?;
        self.note(at, notes);
        // Of what was only for a moment, the moment is over.
        let until = match injection.fault == scenario::Fault::Hold {
            true => Some(self.now()),
            false => injection.fault.is_instant().then_some(at),
        };
        self.record.faults.push(Fault { at, until, kind: injection.fault.kind().to_owned(), on });
        Ok((active, self.record.faults.len() - 1))
    }

    fn end(&mut self, active: Option<(Active, usize)>, number: usize) {
        let Some((active, entry)) = active else { return };
        let injection = &self.schedule[number];
        let (at, on) = (self.now(), injection.fault.on());
        if !active.is_over() {
            (self.tell)(&Told::Fault { at, kind: injection.fault.kind(), on: &on, begins: false });
        }
        let mut notes = Vec::new();
        inject::end(self.stage, active, &mut notes);
        self.note(at, notes);
        if let Some(fault) = self.record.faults.get_mut(entry) {
            fault.until.get_or_insert(at);
        }
    }

    /// Notes what was done to programs and hosts.
    fn note(&mut self, at: Duration, notes: Vec<(String, String, String)>) {
        for (node, program, text) in notes {
            self.record.log.push(Line::new(at, node, program, Stream::Simulator, text));
        }
    }

    /// Reads what programs have said, and what links have carried.
    fn look(&mut self) {
        let at = self.now();
        for slot in &self.stage.slots {
            slot.take_lines(at).into_iter().for_each(|line| self.record.log.push(line));
        }
        for (number, cable) in self.stage.scenario.directory.cables.iter().enumerate() {
            // Without the wire there is nothing more to tell; the end of the run says so.
            let Ok(counters) = self.stage.network.counters(cable.link) else { continue };
            for (way, counters) in counters.iter().enumerate() {
                if let Some(curve) = self.record.curves.get_mut(number * 2 + way) {
                    curve.push(Sample::new(at, counters));
                }
            }
        }
    }

    /// Programs that may end must not fail.
    fn judge_ends(&mut self) {
        for slot in self.stage.slots.iter().filter(|slot| slot.spec.exit == Exit::Well) {
            slot.look();
            let failure = slot.failure();
            let name = format!("{} does not fail", slot.spec.name);
            let check = Check { at: self.now(), name, ok: failure.is_none(), detail: failure.unwrap_or_default() };
            (self.tell)(&Told::Check(&check));
            self.record.checks.push(check);
        }
    }
}
