package hearpack.app

import android.media.AudioAttributes
import android.media.AudioFormat
import android.media.AudioTrack
import hearpack.core.audio.PlaybackSink

private const val BYTES_PER_FRAME = 4 // mono float

private fun track(
    rateHz: Int,
    lowLatency: Boolean,
): AudioTrack {
    val bytes = AudioTrack.getMinBufferSize(rateHz, AudioFormat.CHANNEL_OUT_MONO, AudioFormat.ENCODING_PCM_FLOAT)
    val attributes =
        AudioAttributes
            .Builder()
            .setUsage(AudioAttributes.USAGE_MEDIA)
            .setContentType(AudioAttributes.CONTENT_TYPE_SPEECH)
            .build()
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
            .setAudioAttributes(attributes)
            .setAudioFormat(format)
            .setBufferSizeInBytes(maxOf(bytes, BYTES_PER_FRAME * rateHz / 100))
            .setTransferMode(AudioTrack.MODE_STREAM)
    if (lowLatency) builder.setPerformanceMode(AudioTrack.PERFORMANCE_MODE_LOW_LATENCY)
    return builder.build()
}

/** The enhancer's sound, live: only a headset hears it, because a speaker would howl. */
class Speaker(
    private val routes: Routes,
) : PlaybackSink {
    private var track: AudioTrack? = null
    private var silence = FloatArray(0)

    override fun open(): Int {
        val rate = routes.nativeRateHz()
        track = track(rate, lowLatency = true).apply { play() }
        silence = FloatArray(rate / 100)
        return rate
    }

    override fun write(
        samples: FloatArray,
        count: Int,
    ) {
        val heard = if (routes.output.isHeadset) samples else silence
        track?.write(heard, 0, count, AudioTrack.WRITE_BLOCKING)
    }

    override fun close() {
        val track = track ?: return
        this.track = null
        track.pause()
        track.flush()
        track.release()
    }
}

/** Plays a clip once; a new clip ends the one before. */
class ClipPlayer {
    @Volatile private var playing: Thread? = null

    fun play(
        samples: FloatArray,
        rateHz: Int,
    ) {
        stop()
        val thread =
            Thread {
                val track = track(rateHz, lowLatency = false)
                try {
                    track.play()
                    var at = 0
                    while (at < samples.size && playing == Thread.currentThread()) {
                        val n =
                            track.write(
                                samples,
                                at,
                                minOf(rateHz / 10, samples.size - at),
                                AudioTrack.WRITE_BLOCKING,
                            )
                        if (n <= 0) break
                        at += n
                    }
                    if (at == samples.size) track.stop()
                } finally {
                    track.release()
                }
            }
        playing = thread
        thread.start()
    }

    fun stop() {
        playing = null
    }
}
