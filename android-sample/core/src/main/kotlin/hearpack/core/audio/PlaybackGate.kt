package hearpack.core.audio

/** Why an enhancer plays silence. */
enum class Muted {
    /** No headset, or the user has not said that it is one. */
    ROUTE,

    /** The headset was just pulled out. */
    NOISY,

    /** Another app plays, or a call is on. */
    FOCUS,
}

/**
 * Whether an enhancer may be heard: one headset, audio focus, and nothing unplugged. Any thread; the playback thread asks
 * for each block, so what becomes forbidden is silent with the next one.
 *
 * @param changed called where the answer or its reason becomes another, on the thread that caused it.
 */
class PlaybackGate(
    private val changed: (Muted?) -> Unit,
) {
    private var allowed = false
    private var focus = false
    private var noisy = false

    /** Null where sound may be heard. */
    @Volatile var muted: Muted? = Muted.ROUTE
        private set

    /** The system's output is another, or the user has answered. */
    fun route(monitoring: Monitoring) =
        update {
            allowed = monitoring == Monitoring.ALLOWED
            noisy = false
        }

    /** A headset was unplugged: what plays would come out of the loudspeaker until the next [route]. */
    fun becomingNoisy() = update { noisy = true }

    /** Audio focus was given or taken. */
    fun focus(held: Boolean) = update { focus = held }

    private fun update(change: () -> Unit) {
        val now: Muted?
        synchronized(this) {
            val before = muted
            change()
            now =
                when {
                    noisy -> Muted.NOISY
                    !allowed -> Muted.ROUTE
                    !focus -> Muted.FOCUS
                    else -> null
                }
            muted = now
            if (now == before) return
        }
        changed(now)
    }
}
