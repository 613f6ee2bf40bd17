package hearpack.core

/** One stage of the plain DSP around a net, as the manifest gives it. */
data class DspSpec(
    val kind: String,
    val values: Map<String, Double>,
)
