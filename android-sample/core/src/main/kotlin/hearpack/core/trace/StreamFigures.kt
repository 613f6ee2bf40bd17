package hearpack.core.trace

/**
 * What the screens show of a running stream.
 *
 * @property nanSamples samples of the microphone that were no numbers: silence in their place.
 * @property limitedSamples samples far over full scale, limited before the model.
 * @property nanOutputs calls whose output was not finite: silence or no scores, and the model's state was reset.
 */
data class StreamFigures(
    val peak: Float,
    val rmsDbfs: Double,
    val p50Nanos: Long,
    val p95Nanos: Long,
    val calls: Long,
    val misses: Long,
    val ringOverruns: Long,
    val captureGaps: Long,
    val playoutUnderruns: Long,
    val nanSamples: Long,
    val limitedSamples: Long,
    val nanOutputs: Long,
    val hardwareNanos: Long,
    val playoutSamples: Long?,
    val ledger: LatencyLedger,
)
