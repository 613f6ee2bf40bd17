package hearpack.core.stream

/** Makes the stream's threads; the app gives them their priorities. */
fun interface ThreadStarter {
    fun start(
        role: ThreadRole,
        body: Runnable,
    ): Thread
}

/** Waits for some milliseconds. */
fun interface Sleeper {
    fun sleep(millis: Long)
}

enum class ThreadRole { CAPTURE, INFERENCE, PLAYBACK }
