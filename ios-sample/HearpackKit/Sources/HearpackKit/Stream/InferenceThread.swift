import Foundation

/// A thread that owns a worker: it pumps, sleeps a part of a hop when nothing is due, and stops on request.
///
/// Polling, not signalling: the audio thread then makes no call that could wait, and the wake-up costs at most
/// `interval` of latency, which the ledger shows as part of `ring_wait`.
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
    ///   - onFigures, onFailure: called on this thread. After a failure the thread has ended.
    public init(
        _ worker: StreamWorker, figuresEvery: TimeInterval = 0.2,
        onFigures: @escaping @Sendable (StreamFigures) -> Void, onFailure: @escaping @Sendable (HearpackError) -> Void
    ) {
        let handed = Handed(value: worker)
        let thread = Thread { [self] in
            loop(handed.value, figuresEvery, onFigures, onFailure)
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

    /// Returns when the thread has let go of its worker (at most one call of the model later).
    public func stop() {
        lock.lock()
        stopping = true
        lock.unlock()
        done.wait()
        done.signal()  // a second stop returns at once
    }

    private func loop(
        _ worker: StreamWorker, _ figuresEvery: TimeInterval, _ onFigures: (StreamFigures) -> Void,
        _ onFailure: (HearpackError) -> Void
    ) {
        let geometry = worker.manifest.geometry
        let bufferS = Double(worker.manifest.buffer.samples) / Double(geometry.sampleRateHz)
        let interval = min(0.005, bufferS / 8)
        var shown = Date.distantPast
        do {
            while true {
                lock.lock()
                let ended = stopping
                let due = jobs
                if !due.isEmpty { jobs = [] }
                lock.unlock()
                for job in due { try job(worker) }
                if ended { return }
                let taken = try pooled { try worker.pump() }
                if Date().timeIntervalSince(shown) >= figuresEvery {
                    shown = Date()
                    onFigures(worker.figures())
                }
                if taken == 0 { Thread.sleep(forTimeInterval: interval) }
            }
        } catch {
            onFailure(translated(error) { .artefact($0) })
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
