/// Times every call of an engine and reports it to the recorder. What throws is recorded with its message.
final class TimedEngine: InferenceEngine {
    var signature: GraphSignature { engine.signature }
    var info: EngineInfo { engine.info }
    private(set) var durations = DurationHistogram()
    /// Calls that took longer than the audio they consume lasts.
    private(set) var misses = 0
    /// Asked when a call begins, at that time: what of the stream waits behind it, at the model's rate.
    var waiting: (Int64) -> Int = { _ in 0 }
    /// Input samples up to the end of what the next call sees; kept by the worker.
    var nextEndSample = 0

    private let engine: any InferenceEngine
    private let clock: any StreamClock
    private let recorder: TraceRecorder?
    private let budgetNs: Int64
    private(set) var lastEndNs: Int64 = 0

    init(_ engine: any InferenceEngine, _ clock: any StreamClock, _ recorder: TraceRecorder?, budgetNs: Int64) {
        self.engine = engine
        self.clock = clock
        self.recorder = recorder
        self.budgetNs = budgetNs
    }

    func reset() throws { try engine.reset() }

    func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        let begin = clock.nowNs()
        let waitingSamples = waiting(begin)
        do {
            try engine.step(block, state, into: &outputs, next: &next)
        } catch {
            let message = HearpackError.translating(error) { .artefact($0) }.message
            record(begin, waitingSamples, message)
            throw error
        }
        record(begin, waitingSamples, nil)
    }

    private func record(_ begin: Int64, _ waitingSamples: Int, _ error: String?) {
        lastEndNs = clock.nowNs()
        durations.add(lastEndNs - begin)
        if lastEndNs - begin > budgetNs { misses += 1 }
        recorder?.inference(
            DeviceTrace.Inference(
                beginNs: begin, endNs: lastEndNs, endSample: nextEndSample, waitingSamples: waitingSamples,
                warmUp: nil, error: error))
    }
}
