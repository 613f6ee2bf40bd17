/// What a screen shows of a running stream; made a few times a second, not a block.
public struct StreamFigures: Equatable, Sendable {
    public var calls = 0
    public var computeP50Ms = 0.0
    public var computeP95Ms = 0.0
    public var waitP95Ms = 0.0
    public var misses = 0
    public var lostSamples = 0
    /// Samples of the microphone that were no numbers: silence in their place.
    public var nanSamples = 0
    /// Samples far over full scale, limited before the model.
    public var limitedSamples = 0
    /// Calls whose output was not finite: silence or no scores, and the model's state was reset.
    public var nanOutputs = 0
    public var level = Level(peak: 0, rmsDbfs: -.infinity)
    /// Labels with the largest scores of the last window, best first.
    public var top: [(label: String, score: Float)] = []
    public var playout: PlayoutCounts?

    public init() {}

    public static func == (a: StreamFigures, b: StreamFigures) -> Bool {
        a.calls == b.calls && a.computeP50Ms == b.computeP50Ms && a.computeP95Ms == b.computeP95Ms
            && a.waitP95Ms == b.waitP95Ms && a.misses == b.misses && a.lostSamples == b.lostSamples
            && a.nanSamples == b.nanSamples && a.limitedSamples == b.limitedSamples && a.nanOutputs == b.nanOutputs
            && a.level == b.level && a.playout == b.playout && a.top.map(\.label) == b.top.map(\.label)
            && a.top.map(\.score) == b.top.map(\.score)
    }
}
