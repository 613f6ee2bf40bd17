package hearpack.android

import android.content.Context
import android.media.AudioFormat
import android.media.AudioTimestamp
import android.media.AudioTrack
import hearpack.core.audio.Monitoring
import hearpack.core.audio.Muted
import hearpack.core.audio.OutputBuffer
import hearpack.core.audio.OutputDevice
import hearpack.core.audio.PlaybackException
import hearpack.core.audio.PlaybackGate
import hearpack.core.audio.outputOf

private const val BYTES_PER_FRAME = 4 // mono float
private const val NANOS = 1_000_000_000L

internal fun track(
    rateHz: Int,
    lowLatency: Boolean,
): AudioTrack {
    val bytes = AudioTrack.getMinBufferSize(rateHz, AudioFormat.CHANNEL_OUT_MONO, AudioFormat.ENCODING_PCM_FLOAT)
    val format =
        AudioFormat
            .Builder()
            .setEncoding(AudioFormat.ENCODING_PCM_FLOAT)
            .setSampleRate(rateHz)
            .setChannelMask(AudioFormat.CHANNEL_OUT_MONO)
            .build()
    val builder =
        AudioTrack
            .Builder()
            .setAudioAttributes(SPEECH)
            .setAudioFormat(format)
            .setBufferSizeInBytes(maxOf(bytes, BYTES_PER_FRAME * rateHz / 100))
            .setTransferMode(AudioTrack.MODE_STREAM)
    if (lowLatency) builder.setPerformanceMode(AudioTrack.PERFORMANCE_MODE_LOW_LATENCY)
    try {
        val track = builder.build()
        if (track.state == AudioTrack.STATE_INITIALIZED) return track
        track.release()
    } catch (e: UnsupportedOperationException) {
        throw PlaybackException("AudioTrack: ${e.message}", e)
    } catch (e: IllegalArgumentException) {
        throw PlaybackException("AudioTrack: ${e.message}", e)
    }
    throw PlaybackException("AudioTrack could not be initialised at $rateHz Hz")
}

/**
 * The enhancer's sound, live. Only a headset hears it, because a loudspeaker would howl; nobody does while another app has
 * audio focus, or while a headset is being pulled out.
 *
 * @param onMuted told why nothing is heard, null where all is; any thread.
 */
class Speaker(
    context: Context,
    private val routes: Routes,
    onMuted: (Muted?) -> Unit = {},
) : GatedSink {
    /** Tell it where the route leads, when that changes. */
    override val gate = PlaybackGate(onMuted)
    private val focus = AudioFocus(context, routes, gate::focus, ::becomingNoisy)
    private val stamp = AudioTimestamp()
    private var silence = FloatArray(0)
    private var buffer = OutputBuffer(0, 0)
    private var written = 0L

    @Volatile private var track: AudioTrack? = null

    @Volatile override var latencyNanos = -1L
        private set

    @Volatile override var bufferFrames = 0
        private set

    @Volatile override var underruns = 0
        private set

    override fun open(): Int {
        close()
        gate.route(routes.output.monitoring)
        focus.open()
        val rate = routes.nativeRateHz()
        val track = track(rate, lowLatency = true)
        buffer = OutputBuffer(routes.burstFrames(), track.bufferCapacityInFrames)
        bufferFrames = track.setBufferSizeInFrames(buffer.frames)
        silence = FloatArray(rate / 100)
        written = 0
        this.track = track
        track.play()
        return rate
    }

    /** Main thread: at once, and what the buffer holds is not heard either. */
    private fun becomingNoisy() {
        gate.becomingNoisy()
        val track = track ?: return
        try {
            track.pause()
            track.flush()
            track.play()
        } catch (e: IllegalStateException) {
            gate.becomingNoisy() // closed meanwhile: silent anyway
        }
    }

    override fun write(
        samples: FloatArray,
        count: Int,
    ): Boolean {
        val track = track ?: return false
        // What the system really plays on counts, should it be worse than what is connected made us think.
        val heard = if (gate.muted == null && mayPlayOn(track)) samples else silence
        val n = track.write(heard, 0, count, AudioTrack.WRITE_BLOCKING)
        if (n < 0) return false
        written += n
        underruns = track.underrunCount
        if (buffer.ranDry(underruns)) bufferFrames = track.setBufferSizeInFrames(buffer.frames)
        if (track.getTimestamp(stamp)) {
            val played = stamp.framePosition + (System.nanoTime() - stamp.nanoTime) * track.sampleRate / NANOS
            latencyNanos = maxOf(0L, written - played) * NANOS / track.sampleRate
        }
        return true
    }

    private var routedTo = 0
    private var routedAllowed = false

    private fun mayPlayOn(track: AudioTrack): Boolean {
        val device = track.routedDevice ?: return true
        if (device.id != routedTo) {
            routedTo = device.id
            val alone = outputOf(listOf(OutputDevice(device.type, device.productName?.toString() ?: "")), emptyMap())
            routedAllowed = alone.monitoring != Monitoring.REFUSED
        }
        return routedAllowed
    }

    override fun close() {
        focus.close()
        val track = track ?: return
        this.track = null
        track.pause()
        track.flush()
        track.release()
        latencyNanos = -1
    }
}
