package hearpack.core.trace

/** What the screens show of a running stream. */
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
    val hardwareNanos: Long,
    val playoutSamples: Long?,
    val ledger: LatencyLedger,
)
