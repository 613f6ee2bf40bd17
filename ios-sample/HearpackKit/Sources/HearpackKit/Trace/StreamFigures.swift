/// What a screen shows of a running stream; made a few times a second, not a block.
public struct StreamFigures: Equatable, Sendable {
    public var calls = 0
    public var computeP50Ms = 0.0
    public var computeP95Ms = 0.0
    /// From the callback that completed a buffer to its call.
    public var waitP50Ms = 0.0
    public var waitP95Ms = 0.0
    /// Frames of the largest lump in which capture came lately; 0 before the first.
    public var lumpFrames = 0
    /// Holes in what the system captured.
    public var captureGaps = 0
    /// Samples held before playing begins, at the device's rate; nil without playout.
    public var prefillSamples: Int?
    public var misses = 0
    public var lostSamples = 0
    /// Samples of the microphone that were no numbers: silence in their place.
    public var nanSamples = 0
    /// Samples far over full scale, limited before the model.
    public var limitedSamples = 0
    /// Calls whose output was not finite: silence or no scores, and the model's state was reset.
    public var nanOutputs = 0
    public var level = InputLevel(peak: 0, rmsDbfs: -.infinity)
    /// Labels with the largest scores of the last window, best first.
    public var top: [(label: String, score: Float)] = []
    public var playout: PlayoutCounts?

    public init() {}

    public static func == (a: StreamFigures, b: StreamFigures) -> Bool {
        a.calls == b.calls && a.computeP50Ms == b.computeP50Ms && a.computeP95Ms == b.computeP95Ms
            && a.waitP50Ms == b.waitP50Ms && a.waitP95Ms == b.waitP95Ms && a.lumpFrames == b.lumpFrames
            && a.captureGaps == b.captureGaps && a.prefillSamples == b.prefillSamples && a.misses == b.misses
            && a.lostSamples == b.lostSamples
            && a.nanSamples == b.nanSamples && a.limitedSamples == b.limitedSamples && a.nanOutputs == b.nanOutputs
            && a.level == b.level && a.playout == b.playout && a.top.map(\.label) == b.top.map(\.label)
            && a.top.map(\.score) == b.top.map(\.score)
    }
}
