package hearpack.android

import android.media.AudioFormat
import android.media.AudioRecord
import android.media.AudioRouting
import android.media.AudioTimestamp
import android.media.MediaRecorder
import android.os.Build
import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureFormat
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Port
import hearpack.core.audio.portOf

private const val BYTES_PER_FRAME = 4 // mono float

/** The microphone: AudioRecord at the device's native rate, mono float, read in bursts. */
class MicSource(
    private val routes: Routes,
) : CaptureSource {
    @Volatile private var record: AudioRecord? = null
    private var changesSeen = 0

    @Volatile private var rerouted = false
    private val routing =
        AudioRouting.OnRoutingChangedListener {
            // Another microphone, with the same output or not; the first answer is the one we opened with.
            val id = it.routedDevice?.id
            if (id != null && routedTo != 0 && id != routedTo) rerouted = true
        }

    @Volatile private var routedTo = 0
    private val stamp = AudioTimestamp()
    private val watch = SilenceWatch()

    override val silenced: Boolean get() = watch.silenced

    override fun open(): OpenedCapture {
        close()
        changesSeen = routes.changes
        val rate = routes.nativeRateHz()
        val burst = routes.burstFrames()
        val unprocessed = routes.hasUnprocessed()
        val record = build(rate, burst, unprocessed)
        this.record = record
        if (record.state != AudioRecord.STATE_INITIALIZED) {
            throw CaptureException(CaptureFault.UNAVAILABLE, "AudioRecord could not be initialised at $rate Hz")
        }
        try {
            record.startRecording()
        } catch (e: IllegalStateException) {
            throw CaptureException(CaptureFault.TAKEN, e.message ?: "startRecording was refused")
        }
        if (record.recordingState != AudioRecord.RECORDSTATE_RECORDING) {
            throw CaptureException(CaptureFault.TAKEN, "AudioRecord does not record: another app holds the microphone")
        }
        if (Build.VERSION.SDK_INT >= 29) Api29.watch(record, watch)
        val device = record.routedDevice
        routedTo = device?.id ?: 0
        rerouted = false
        record.addOnRoutingChangedListener(routing, routes.handler)
        val name = if (unprocessed) "unprocessed" else "voice_recognition"
        // Java's AudioRecord has no fast path: what comes at once is measured, not granted.
        val asked = CaptureFormat(rate, 1, burst, "float32", "none", name)
        val granted = asked.copy(rateHz = record.sampleRate, channels = record.channelCount, source = sourceOf(record))
        return OpenedCapture(asked, granted, device?.let { portOf(it.type) } ?: Port.BUILT_IN, routes.output)
    }

    private fun sourceOf(record: AudioRecord): String =
        when (record.audioSource) {
            MediaRecorder.AudioSource.UNPROCESSED -> "unprocessed"
            MediaRecorder.AudioSource.VOICE_RECOGNITION -> "voice_recognition"
            else -> "source ${record.audioSource}"
        }

    private fun build(
        rate: Int,
        burst: Int,
        unprocessed: Boolean,
    ): AudioRecord {
        val bytes = AudioRecord.getMinBufferSize(rate, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_FLOAT)
        if (bytes <= 0) throw CaptureException(CaptureFault.UNAVAILABLE, "no mono float capture at $rate Hz ($bytes)")
        val source = MediaRecorder.AudioSource.UNPROCESSED.takeIf { unprocessed }
        val format =
            AudioFormat
                .Builder()
                .setEncoding(AudioFormat.ENCODING_PCM_FLOAT)
                .setSampleRate(rate)
                .setChannelMask(AudioFormat.CHANNEL_IN_MONO)
                .build()
        try {
            return AudioRecord
                .Builder()
                .setAudioSource(source ?: MediaRecorder.AudioSource.VOICE_RECOGNITION)
                .setAudioFormat(format)
                .setBufferSizeInBytes(maxOf(bytes, BURSTS * burst * BYTES_PER_FRAME))
                .build()
        } catch (e: UnsupportedOperationException) {
            throw CaptureException(CaptureFault.UNAVAILABLE, e.message ?: "AudioRecord cannot be made")
        } catch (e: SecurityException) {
            throw CaptureException(CaptureFault.NO_PERMISSION, e.message ?: "no permission to record")
        }
    }

    override fun read(target: FloatArray): Int {
        val record = record ?: return CaptureSource.FAILED
        val n = record.read(target, 0, target.size, AudioRecord.READ_BLOCKING)
        if (n == AudioRecord.ERROR_DEAD_OBJECT) return CaptureSource.ROUTE_CHANGED
        if (n < 0) return CaptureSource.FAILED
        if (rerouted || routes.changes != changesSeen) return CaptureSource.ROUTE_CHANGED
        return n
    }

    override fun timestamp(into: LongArray): Boolean {
        val record = record ?: return false
        if (record.getTimestamp(stamp, AudioTimestamp.TIMEBASE_BOOTTIME) != 0) return false
        into[0] = stamp.framePosition
        into[1] = ProcessClock.fromBoot(stamp.nanoTime)
        return true
    }

    override fun close() {
        val record = record ?: return
        this.record = null
        if (Build.VERSION.SDK_INT >= 29) Api29.unwatch(record, watch)
        watch.silenced = false
        record.removeOnRoutingChangedListener(routing)
        if (record.state == AudioRecord.STATE_INITIALIZED) record.stop()
        record.release()
    }

    override fun interrupt() {
        try {
            record?.stop() // a read that waits returns
        } catch (e: IllegalStateException) {
            return // released meanwhile, which ends the read too
        }
    }

    private companion object {
        const val BURSTS = 8
    }
}
