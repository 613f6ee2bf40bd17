import Foundation

/// A thread that owns a worker: it pumps, sleeps until the next buffer is expected, and stops on request.
///
/// No signal from the audio thread, which then makes no call that could wait. What the wake-up costs is part of
/// `ring_wait` in the ledger; there are at most 140 of them a second.
public final class InferenceThread: @unchecked Sendable {
    public typealias Job = @Sendable (StreamWorker) throws -> Void

    private let lock = NSLock()
    private var jobs: [Job] = []
    private var stopping = false
    private let done = DispatchSemaphore(value: 0)

    /// Hands a value that is no `Sendable` to the one thread that uses it from then on.
    struct Handed<Value>: @unchecked Sendable { let value: Value }

    /// Starts at once.
    ///
    /// - Parameters:
    ///   - worker: given away: from now on only this thread uses it, until `stop` has returned.
    ///   - figuresEvery: seconds between two calls of `onFigures`.
    ///   - sleeper: how it waits.
    ///   - onFigures, onFailure: called on this thread. After a failure the thread has ended.
    public init(
        _ worker: StreamWorker, figuresEvery: TimeInterval = 0.2, sleeper: any Sleeper = ThreadSleeper(),
        onFigures: @escaping @Sendable (StreamFigures) -> Void, onFailure: @escaping @Sendable (HearpackError) -> Void
    ) {
        let handed = Handed(value: worker)
        let thread = Thread { [self] in
            loop(handed.value, Int64(figuresEvery * 1e9), sleeper, onFigures, onFailure)
            done.signal()
        }
        thread.name = "hearpack inference"
        thread.qualityOfService = .userInteractive
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// Between two blocks, on the thread: for what the app reports to worker or recorder. What throws fails the stream.
    public func run(_ job: @escaping Job) {
        lock.lock()
        jobs.append(job)
        lock.unlock()
    }

    /// Works on what was captured, ends the stream (what is on is closed), and returns when the thread has let go of its
    /// worker: at most half a second of audio later. Not for a thread that must not wait.
    public func stop() {
        lock.lock()
        stopping = true
        lock.unlock()
        done.wait()
        done.signal()  // a second stop returns at once
    }

    private func loop(
        _ worker: StreamWorker, _ figuresEvery: Int64, _ sleeper: any Sleeper, _ onFigures: (StreamFigures) -> Void,
        _ onFailure: (HearpackError) -> Void
    ) {
        var budget = WakeupBudget()
        var shown: Int64?
        do {
            while true {
                lock.lock()
                let ended = stopping
                let due = jobs
                if !due.isEmpty { jobs = [] }
                lock.unlock()
                for job in due { try job(worker) }
                if ended {
                    try pooled { try worker.finish() }
                    onFigures(worker.figures())
                    return
                }
                let taken = try pooled { try worker.pump() }
                let now = worker.clock.nowNs()
                if shown.map({ now - $0 >= figuresEvery }) ?? true {
                    shown = now
                    onFigures(worker.figures())
                }
                if taken == 0 { sleeper.sleep(budget.sleep(worker.pauseNs(now), now: now)) }
            }
        } catch {
            onFailure(HearpackError.translating(error) { .artefact($0) })
        }
    }

    /// Core ML leaves autoreleased objects behind at every prediction.
    private func pooled<Result>(_ body: () throws -> Result) rethrows -> Result {
        #if canImport(ObjectiveC)
        return try autoreleasepool(invoking: body)
        #else
        return try body()
        #endif
    }
}
