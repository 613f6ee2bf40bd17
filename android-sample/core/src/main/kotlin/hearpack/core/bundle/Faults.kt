package hearpack.core.bundle

/** What can be wrong with a bundle; each kind has its own message on the screen. */
enum class BundleFault {
    /** A file that must be there is not. */
    MISSING,

    /** Not JSON, or against the schema. */
    INVALID,

    /** Written by a newer hearpack than this app knows. */
    NEWER_SCHEMA,

    /** A file is not the one that was exported. */
    DAMAGED,

    /** The model's tensors are not those of the manifest. */
    MISMATCH,
}

/** A bundle cannot be used. The message says what was expected, what came and what to do, in harmless characters. */
class BundleException(
    val fault: BundleFault,
    message: String,
    cause: Throwable? = null,
) : Exception(printable(message), cause)

/** An audio stream cannot go on: samples that are no numbers, or a call after the stream's end. */
class StreamException(
    message: String,
    cause: Throwable? = null,
) : Exception(message, cause)

/** The inference library failed to load or to run a model. */
class EngineException(
    message: String,
    cause: Throwable? = null,
) : Exception(message, cause)
