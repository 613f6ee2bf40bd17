package hearpack.android

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.media.AudioAttributes
import android.media.AudioFocusRequest
import android.media.AudioManager

/** Speech that is played, as the system's rules for who may be heard know it. */
internal val SPEECH: AudioAttributes =
    AudioAttributes
        .Builder()
        .setUsage(AudioAttributes.USAGE_MEDIA)
        .setContentType(AudioAttributes.CONTENT_TYPE_SPEECH)
        .build()

/**
 * Audio focus, and the warning that a headset is being pulled out.
 *
 * @param held told whether we have focus; on the handler's thread, or the caller's for the first answer.
 * @param noisy called when what plays would come out of the loudspeaker.
 */
internal class AudioFocus(
    private val context: Context,
    private val routes: Routes,
    private val held: (Boolean) -> Unit,
    private val noisy: () -> Unit,
) {
    private val request =
        AudioFocusRequest
            .Builder(AudioManager.AUDIOFOCUS_GAIN)
            .setAudioAttributes(SPEECH)
            .setOnAudioFocusChangeListener({ held(it == AudioManager.AUDIOFOCUS_GAIN) }, routes.handler)
            .build()
    private val receiver =
        object : BroadcastReceiver() {
            override fun onReceive(
                context: Context,
                intent: Intent,
            ) = noisy()
        }
    private var open = false

    fun open() {
        if (open) return
        open = true
        context.registerReceiver(receiver, IntentFilter(AudioManager.ACTION_AUDIO_BECOMING_NOISY))
        held(routes.manager.requestAudioFocus(request) == AudioManager.AUDIOFOCUS_REQUEST_GRANTED)
    }

    fun close() {
        if (!open) return
        open = false
        context.unregisterReceiver(receiver)
        routes.manager.abandonAudioFocusRequest(request)
    }
}
