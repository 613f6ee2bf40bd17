package hearpack.app

import android.media.AudioFormat
import android.media.AudioRecord
import android.media.AudioTimestamp
import android.media.MediaRecorder
import android.os.Build
import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureFormat
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Port

private const val BYTES_PER_FRAME = 4 // mono float

/** The microphone: AudioRecord at the device's native rate, mono float, read in bursts. */
class MicSource(
    private val routes: Routes,
) : CaptureSource {
    private var record: AudioRecord? = null
    private var routedTo = 0
    private var changesSeen = 0
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
        val name = if (unprocessed) "unprocessed" else "voice_recognition"
        val asked = CaptureFormat(rate, 1, burst, "float32", "none", name)
        val port = device?.let { Routes.portOf(it.type) } ?: Port.BUILT_IN
        return OpenedCapture(asked, asked.copy(rateHz = record.sampleRate), port, routes.output)
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
        if (routes.changes != changesSeen) return CaptureSource.ROUTE_CHANGED
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
        if (record.state == AudioRecord.STATE_INITIALIZED) record.stop()
        record.release()
    }

    private companion object {
        const val BURSTS = 8
    }
}
